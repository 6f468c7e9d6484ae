//! Turning, moving, scaling and mirroring pictures while training. Colours stay as they are.

use rand::{Rng, RngExt};
use tch::{Kind, Tensor};

use crate::recipe::Augmentation;

/// Bytes `[n, 3, size, size]` as the input of a network.
pub(crate) fn normalise(pictures: &Tensor, mean: [f32; 3], std: [f32; 3]) -> Tensor {
    let row = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(pictures.device());
    (pictures.to_kind(Kind::Float) / 255.0 - row(mean)) / row(std)
}

/// Changes each picture of `pictures`, bytes `[n, 3, size, size]`, at random; what comes in from outside is black.
pub(crate) fn augment(pictures: &Tensor, how: &Augmentation, random: &mut impl Rng) -> Tensor {
    let size = pictures.size();
    let transforms: Vec<f32> = (0..size[0]).flat_map(|_| transform(how, random)).collect();
    let transforms = Tensor::from_slice(&transforms).view([size[0], 2, 3]).to_device(pictures.device());
    let grid = Tensor::affine_grid_generator(&transforms, &size[..], false);
    // Bilinear, zeros outside, and the same meaning of a corner as the grid.
    pictures.to_kind(Kind::Float).grid_sampler(&grid, 0, 0, false)
}

/// Where in the old picture the points of the new one lie, both from −1 to 1: a matrix of two rows.
fn transform(how: &Augmentation, random: &mut impl Rng) -> [f32; 6] {
    let mut between = |low: f32, high: f32| if low < high { random.random_range(low..high) } else { low };
    let angle = between(-how.rotation_degrees, how.rotation_degrees).to_radians();
    let [left, down] = [(); 2].map(|()| between(-how.shift, how.shift) * 2.0);
    let scale = between(how.scale[0], how.scale[1]);
    let mut mirror = |wanted: bool| if wanted && random.random_bool(0.5) { -1.0 } else { 1.0 };
    let (across, upright) = (mirror(how.mirror), mirror(how.upside_down));
    let (sine, cosine) = (angle.sin() / scale, angle.cos() / scale);
    [cosine * across, -sine * across, left, sine * upright, cosine * upright, down]
}
