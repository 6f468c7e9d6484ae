//! The same loops, compiled for the widest vectors that the processor has.

use pulp::{Arch, Simd, WithSimd};

/// Does `work`, whose closure must be `#[inline(always)]` like everything that it calls: only what is inlined here is compiled anew.
#[inline(always)]
pub(crate) fn widest(work: impl FnMut()) {
    struct Work<F>(F);
    impl<F: FnMut()> WithSimd for Work<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) {
            (self.0)();
        }
    }
    Arch::new().dispatch(Work(work));
}
