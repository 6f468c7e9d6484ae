//! The integers that stand for the values between two steps.

use crate::network::{Map, Network, Op, Step};

/// What integers a runtime is given, and for which values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 0 to 255 with a zero point, for all that a step reads which computes in integers: ONNX Runtime then has them from end to
    /// end.
    Unsigned,
    /// −127 to 127 around zero, for what convolutions read. The result of the convolution before a sum is left as it is, so
    /// that TensorRT fuses both.
    Signed,
}

impl Format {
    /// Whether each value of a network becomes an integer. What is a logarithm taken of, a root, or what is divided by, does not: a
    /// small number would become 0.
    pub fn rounded(self, network: &Network) -> Vec<bool> {
        let minds_zero = |at: &usize, value: usize| match &network.steps[*at] {
            Step { op: Op::Log | Op::Root, .. } => true,
            Step { op: Op::Divide, inputs, .. } => inputs[1] == value,
            _ => false,
        };
        let computes_in_integers = |at: &usize| has_integer_kernel(&network.steps[*at].op);
        let is_rounded = |value: usize| {
            let readers = network.readers(value);
            if readers.iter().any(|at| minds_zero(at, value)) {
                return false;
            }
            match self {
                // A convolution gives integers, whoever reads them, in order to compute with them; but not the logit.
                Self::Unsigned if value > 0 && network.conv(value - 1).is_some() => {
                    readers.iter().any(|&at| network.steps[at].op != Op::Sigmoid)
                }
                Self::Unsigned => readers.iter().any(computes_in_integers),
                Self::Signed => readers.iter().any(|&at| network.conv(at).is_some()),
            }
        };
        let mut rounded: Vec<bool> = (0..=network.steps.len()).map(is_rounded).collect();
        // What else reads the picture reads it as it is, and not as the convolutions want it. And what would lose its small
        // numbers when its result was rounded has nothing from a rounded picture, either.
        let keeps_small = |at: usize| network.readers(at + 1).iter().any(|reader| minds_zero(reader, at + 1));
        rounded[0] &= network.readers(0).iter().all(|at| computes_in_integers(at) && !keeps_small(*at));
        self.prune(network, &mut rounded);
        rounded
    }

    /// Leaves those values in floats that no integers are computed from or with: rounding them would be for nothing.
    pub fn prune(self, network: &Network, rounded: &mut [bool]) {
        // What TensorRT's form rounds is read by convolutions, which compute in integers then.
        if self == Self::Signed {
            return;
        }
        let in_integers = |at: usize| self.is_in_integers(network, at, rounded);
        let is_of_use = |value: usize| {
            value.checked_sub(1).is_some_and(in_integers) || network.readers(value).into_iter().any(in_integers)
        };
        let of_use: Vec<bool> = (0..rounded.len()).map(is_of_use).collect();
        rounded.iter_mut().zip(of_use).for_each(|(rounded, of_use)| *rounded &= of_use);
    }

    /// Whether a step computes in integers, where those values are integers that are `rounded`.
    pub fn is_in_integers(self, network: &Network, at: usize, rounded: &[bool]) -> bool {
        // TensorRT also gives floats for integers.
        let step = &network.steps[at];
        has_integer_kernel(&step.op)
            && (rounded[at + 1] || self == Self::Signed)
            && step.inputs.iter().all(|&value| rounded[value])
    }
}

/// Whether a runtime can do a step with integers.
fn has_integer_kernel(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Add | Op::Double | Op::Mean)
}

/// Evenly spaced values: `scale · (q − zero)` for `low ≤ q ≤ high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// The distance between neighbours.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero: i32,
    /// The least integer.
    pub low: i32,
    /// The greatest integer.
    pub high: i32,
}

impl Grid {
    /// The grid that spans `range`, which is widened to hold 0. A range of nothing gives a grid that is not degenerate.
    pub fn spanning(format: Format, range: [f32; 2]) -> Self {
        let [low, high] = [range[0].min(0.0), range[1].max(0.0)];
        match format {
            Format::Unsigned => {
                let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE * 1e6);
                let zero = (-low / scale).round().clamp(0.0, 255.0) as i32;
                Self { scale, zero, low: 0, high: 255 }
            }
            Format::Signed => {
                let scale = (high.max(-low) / 127.0).max(f32::MIN_POSITIVE * 1e6);
                Self { scale, zero: 0, low: -127, high: 127 }
            }
        }
    }

    /// The integer for a value; halves go to the even neighbour, as ONNX asks for.
    pub fn quantize(&self, x: f32) -> i32 {
        (self.steps(x) as i32 + self.zero).clamp(self.low, self.high)
    }

    /// The whole number of steps that is nearest to a value, on a grid without ends.
    fn steps(&self, x: f32) -> f32 {
        // Adding 1.5 · 2²³ leaves no place for a fraction: the processor rounds, halves to even.
        const NO_FRACTION: f32 = 12_582_912.0;
        (x / self.scale).clamp(-1024.0, 1024.0) + NO_FRACTION - NO_FRACTION
    }

    /// The value of an integer.
    pub fn value(&self, q: i32) -> f32 {
        (q - self.zero) as f32 * self.scale
    }

    /// The nearest value of the grid.
    pub fn round(&self, x: f32) -> f32 {
        self.value(self.quantize(x))
    }

    /// Rounds all values of a map, as [`Grid::round`] does, and without integers between, of which a processor makes one at a time.
    pub fn round_map(&self, map: &mut Map) {
        let [low, high] = [self.low - self.zero, self.high - self.zero].map(|end| end as f32);
        map.values.iter_mut().for_each(|x| *x = self.steps(*x).clamp(low, high) * self.scale);
    }

    /// The least and the greatest value.
    pub fn range(&self) -> [f32; 2] {
        [self.value(self.low), self.value(self.high)]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_inside_the_range_move_by_half_a_step_at_most(low in -50f32..0.0, high in 0f32..50.0, at in 0f32..1.0) {
            for format in [Format::Unsigned, Format::Signed] {
                let grid = Grid::spanning(format, [low, high]);
                let x = low + (high - low) * at;
                // The zero point is rounded, which moves one end by up to half a step.
                prop_assert!((grid.round(x) - x).abs() <= grid.scale * 1.001, "{grid:?} {x} {}", grid.round(x));
                prop_assert_eq!(grid.round(0.0), 0.0);
                let mut map = Map { shape: [1, 1, 3], values: vec![x, x + 100.0, x - 1e6] };
                let each: Vec<f32> = map.values.iter().map(|x| grid.round(*x)).collect();
                grid.round_map(&mut map);
                prop_assert_eq!(map.values, each);
            }
        }
    }

    #[test]
    fn a_range_of_nothing_keeps_zero() {
        for format in [Format::Unsigned, Format::Signed] {
            let grid = Grid::spanning(format, [0.0, 0.0]);
            assert_eq!(grid.round(0.0), 0.0);
            assert!(grid.round(1.0).is_finite());
        }
    }
}
