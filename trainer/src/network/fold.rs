//! Batch normalisation folded into the convolutions before it.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::{Conv, Network, Op};

/// The same function without batch normalisations, and its numbers by parameter name.
///
/// The kernel is `w · s / √(v + ε)` and the bias `b − m · s / √(v + ε)`, where a normalisation has the scale s, the shift b,
/// the running mean m and the running variance v. A convolution without one stays as it is.
pub fn fold(network: &Network, values: &HashMap<String, Vec<f32>>) -> Result<(Network, HashMap<String, Vec<f32>>)> {
    let (mut folded, mut numbers) = (network.clone(), HashMap::new());
    for step in &mut folded.steps {
        let (name, kernel, bias) = match &mut step.op {
            Op::Conv(conv) => {
                let (kernel, bias) = fold_one(conv, network.epsilon, values)?;
                conv.norm = None;
                (&conv.name, kernel, bias)
            }
            Op::Linear { name, .. } => {
                let part = |part: &str| value(values, &format!("{name}.{part}")).map(<[f32]>::to_vec);
                let (matrix, bias) = (part("weight")?, part("bias")?);
                (&*name, matrix, bias)
            }
            Op::Add { .. } | Op::Double | Op::Mean => continue,
        };
        numbers.insert(format!("{name}.weight"), kernel);
        numbers.insert(format!("{name}.bias"), bias);
    }
    Ok((folded, numbers))
}

fn fold_one(conv: &Conv, epsilon: f64, values: &HashMap<String, Vec<f32>>) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut kernel = value(values, &format!("{}.weight", conv.name))?.to_vec();
    let Some(norm) = &conv.norm else {
        return Ok((kernel, value(values, &format!("{}.bias", conv.name))?.to_vec()));
    };
    let part = |part: &str| value(values, &format!("{norm}.{part}"));
    let (scale, shift, mean, variance) = (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
    let factors: Vec<f64> = scale
        .iter()
        .zip(variance)
        .map(|(&scale, &variance)| f64::from(scale) / (f64::from(variance) + epsilon).sqrt())
        .collect();
    let row = (conv.inputs / conv.groups * conv.kernel * conv.kernel) as usize;
    for (row, factor) in kernel.chunks_exact_mut(row).zip(&factors) {
        row.iter_mut().for_each(|value| *value = (f64::from(*value) * factor) as f32);
    }
    let folded = |((&shift, &mean), factor): ((&f32, &f32), &f64)| (f64::from(shift) - f64::from(mean) * factor) as f32;
    let bias = shift.iter().zip(mean).zip(&factors).map(folded).collect();
    Ok((kernel, bias))
}

/// The numbers of one parameter.
pub(super) fn value<'a>(values: &'a HashMap<String, Vec<f32>>, name: &str) -> Result<&'a [f32]> {
    values.get(name).map(Vec::as_slice).with_context(|| format!("the weights have no {name}"))
}
