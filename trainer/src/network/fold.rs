//! Batch normalisation folded into the convolutions before it, and into the matrices after it.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::{Conv, Network, Op};

/// The same function without batch normalisations, and its numbers by parameter name.
///
/// A normalisation with the scale s, the shift t, the running mean m and the running variance v makes `f · x + o` of x, with
/// f = s / √(v + ε) and o = t − m · f. After a convolution the kernel becomes `f · w` and the bias `o`; before a matrix it
/// becomes `w · f` and the bias `b + w · o`. What has no normalisation stays as it is.
pub fn fold(network: &Network, values: &HashMap<String, Vec<f32>>) -> Result<(Network, HashMap<String, Vec<f32>>)> {
    let (mut folded, mut numbers) = (network.clone(), HashMap::new());
    for step in &mut folded.steps {
        let (name, weights, bias) = match &mut step.op {
            Op::Conv(conv) => {
                let (kernel, bias) = fold_conv(conv, network.epsilon, values)?;
                conv.norm = None;
                (&conv.name, kernel, bias)
            }
            Op::Linear { name, norm, inputs, .. } => {
                let part = |part: &str| value(values, &format!("{name}.{part}")).map(<[f32]>::to_vec);
                let (mut matrix, mut bias) = (part("weight")?, part("bias")?);
                if let Some(norm) = norm.take() {
                    let normalisation = Normalisation::read(&norm, network.epsilon, values)?;
                    for (row, bias) in matrix.chunks_exact_mut(*inputs as usize).zip(&mut bias) {
                        normalisation.fold_into(row, bias);
                    }
                }
                (&*name, matrix, bias)
            }
            _ => continue,
        };
        numbers.insert(format!("{name}.weight"), weights);
        numbers.insert(format!("{name}.bias"), bias);
    }
    Ok((folded, numbers))
}

fn fold_conv(conv: &Conv, epsilon: f64, values: &HashMap<String, Vec<f32>>) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut kernel = value(values, &format!("{}.weight", conv.name))?.to_vec();
    let Some(norm) = &conv.norm else {
        return Ok((kernel, value(values, &format!("{}.bias", conv.name))?.to_vec()));
    };
    let Normalisation { factors, offsets } = Normalisation::read(norm, epsilon, values)?;
    let row = (conv.inputs / conv.groups * conv.kernel * conv.kernel) as usize;
    for (row, factor) in kernel.chunks_exact_mut(row).zip(&factors) {
        row.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
    Ok((kernel, offsets.iter().map(|&offset| offset as f32).collect()))
}

/// What a batch normalisation does to each channel.
struct Normalisation {
    factors: Vec<f64>,
    offsets: Vec<f64>,
}

impl Normalisation {
    fn read(name: &str, epsilon: f64, values: &HashMap<String, Vec<f32>>) -> Result<Self> {
        let part = |part: &str| value(values, &format!("{name}.{part}"));
        let (scale, shift) = (part("weight")?, part("bias")?);
        let (mean, variance) = (part("running_mean")?, part("running_var")?);
        let factor = |(&scale, &variance): (&f32, &f32)| f64::from(scale) / (f64::from(variance) + epsilon).sqrt();
        let factors: Vec<f64> = scale.iter().zip(variance).map(factor).collect();
        let offset = |((&shift, &mean), factor): ((&f32, &f32), &f64)| f64::from(shift) - f64::from(mean) * factor;
        let offsets = shift.iter().zip(mean).zip(&factors).map(offset).collect();
        Ok(Self { factors, offsets })
    }

    /// Takes it into a row of a matrix and its bias.
    fn fold_into(&self, row: &mut [f32], bias: &mut f32) {
        let moved: f64 = row.iter().zip(&self.offsets).map(|(&weight, offset)| f64::from(weight) * offset).sum();
        *bias = (f64::from(*bias) + moved) as f32;
        for (weight, factor) in row.iter_mut().zip(&self.factors) {
            *weight = (f64::from(*weight) * factor) as f32;
        }
    }
}

/// The numbers of one parameter.
pub(super) fn value<'a>(values: &'a HashMap<String, Vec<f32>>, name: &str) -> Result<&'a [f32]> {
    values.get(name).map(Vec::as_slice).with_context(|| format!("the weights have no {name}"))
}
