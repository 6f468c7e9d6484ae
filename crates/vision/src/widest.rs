//! The same loops, compiled for the widest vectors that the processor has.

use pulp::{Arch, Simd, WithSimd};

/// Does `work`, whose closure must be `#[inline(always)]` like everything that it calls: only what is inlined here is compiled anew.
#[inline(always)]
pub fn widest<R>(work: impl FnMut() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnMut() -> R> WithSimd for Work<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}
