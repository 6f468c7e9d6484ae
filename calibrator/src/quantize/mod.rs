//! From floats to integers.

mod align;
mod budget;
mod equalise;
mod grid;
mod integers;
mod moments;
mod observe;
mod pass;
mod ranges;
mod rounding;
mod sensitivity;
mod weights;

use anyhow::Result;

pub use grid::{Format, Grid};
pub use integers::bias_integer;
pub use observe::ranges;
pub use pass::{Quantized, Value};
pub use ranges::{Histogram, RangeMethod};
pub use rounding::Rounding;
pub use weights::Weights;

use crate::network::{Map, Network};
use crate::recipe::Recipe;

/// Pictures that 16-bit weights need: their errors are a thousandth of those of 8 bits.
const FOR_HALVES: usize = 48;

/// fp16: weights of 16 bits; values stay floats.
pub fn fp16(network: &Network, pictures: &[Map], recipe: &Recipe) -> Result<Quantized> {
    let (bits, rounded) = (vec![16; network.steps.len()], vec![false; network.steps.len() + 1]);
    pass::quantize(network, &pictures[..pictures.len().min(FOR_HALVES)], &bits, None, &rounded, recipe)
}

/// int8 for one runtime: `Format::Unsigned` for ONNX Runtime, `Format::Signed` for TensorRT.
pub fn int8(network: &Network, pictures: &[Map], format: Format, recipe: &Recipe) -> Result<Quantized> {
    let mut network = network.clone();
    if recipe.equalise {
        let mut observed = observe::observe(&network, pictures)?;
        equalise::equalise(&mut network, &mut observed, 8, true);
    }
    let mut rounded = format.rounded(&network);
    if recipe.float_share > 0.0 {
        let errors = sensitivity::isolated(&network, pictures, format, recipe, &rounded);
        let floats = sensitivity::floats(&network, &errors, recipe.float_share, format);
        rounded.iter_mut().zip(floats).for_each(|(rounded, is_float)| *rounded &= !is_float);
        format.prune(&network, &mut rounded);
    }
    // What computes in floats has weights of 16 bits: ONNX Runtime makes them 32-bit ones while it loads them, and then has the
    // same fast convolutions for them as in a network of floats, which it has not for weights that it must scale.
    let bits = |at| if format.is_in_integers(&network, at, &rounded) { 8 } else { 16 };
    let bits: Vec<u8> = (0..network.steps.len()).map(bits).collect();
    pass::quantize(&network, pictures, &bits, Some(format), &rounded, recipe)
}

/// int4: weights of 4 bits, and of 8 where the budget of `recipe` allows; values stay floats. `fp32_bytes` is the size of the
/// fp32 file.
pub fn int4(network: &Network, pictures: &[Map], fp32_bytes: usize, recipe: &Recipe) -> Result<Quantized> {
    let mut network = network.clone();
    let mut observed = observe::observe(&network, pictures)?;
    if recipe.scale_weights {
        equalise::equalise(&mut network, &mut observed, 4, false);
    }
    let bits = budget::bits(&network, &observed, (recipe.int4_size * fp32_bytes as f64) as usize)?;
    let rounded = vec![false; network.steps.len() + 1];
    pass::quantize(&network, pictures, &bits, None, &rounded, recipe)
}
