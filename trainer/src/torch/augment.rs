//! What is done to pictures while training: they are turned, moved, scaled and mirrored, and get the light, the blur and the noise of
//! other cameras.

use anemia_vision::BLACK;
use rand::{Rng, RngExt};
use tch::{Kind, Tensor};

use crate::network::STRIDE;
use crate::recipe::Augmentation;

/// Bytes `[n, 3, size, size]` as the input of a network.
pub(crate) fn normalise(pictures: &Tensor, mean: [f32; 3], std: [f32; 3]) -> Tensor {
    let row = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]).to_device(pictures.device());
    (pictures.to_kind(Kind::Float) / 255.0 - row(mean)) / row(std)
}

/// Changes each picture of `pictures`, bytes `[n, 3, size, size]`, at random; what comes in from outside is black.
pub(crate) fn augment(pictures: &Tensor, how: &Augmentation, random: &mut impl Rng) -> Tensor {
    if how.is_still() {
        return spoil(pictures.to_kind(Kind::Float), how, random);
    }
    let size = pictures.size();
    let transforms: Vec<f32> = (0..size[0]).flat_map(|_| transform(how, random)).collect();
    let transforms = Tensor::from_slice(&transforms).view([size[0], 2, 3]).to_device(pictures.device());
    let grid = Tensor::affine_grid_generator(&transforms, &size[..], false);
    // Bilinear, zeros outside, and the same meaning of a corner as the grid.
    let pictures = pictures.to_kind(Kind::Float).grid_sampler(&grid, 0, 0, false);
    spoil(pictures, how, random)
}

/// Draws `side` × `side` pixels of tissue of each picture, and gives them as a picture without a shape, in which a network that goes
/// from pixel to pixel by [`STRIDE`] sees each of them once: `[n, 3, side · STRIDE, side · STRIDE]`. Where a picture has less tissue,
/// the others are black.
pub(crate) fn draw_pixels(pictures: &Tensor, side: u32) -> Tensor {
    let (count, side) = (pictures.size()[0], i64::from(side));
    let chances = tissue(pictures).flatten(1, -1);
    let chances = chances.rand_like() * chances;
    let (_, places) = chances.topk(side * side, 1, true, false);
    let places = places.unsqueeze(1).expand([count, 3, side * side], false);
    let drawn = pictures.flatten(2, -1).gather(2, &places, false).view([count, 3, side, side]);
    drawn.upsample_nearest2d([side * STRIDE; 2], None, None)
}

/// 1 where a picture has tissue, `[n, 1, height, width]`: it has no other black than the one around it, or hardly.
fn tissue(pictures: &Tensor) -> Tensor {
    pictures.sum_dim_intlist([1].as_slice(), true, Kind::Float).gt(f64::from(BLACK)).to_kind(Kind::Float)
}

/// Gives each picture the light, the blur and the noise of another camera; the black around the tissue stays black.
fn spoil(mut pictures: Tensor, how: &Augmentation, random: &mut impl Rng) -> Tensor {
    if [how.light, how.tint, how.blur, how.noise] == [0.0; 4] {
        return pictures;
    }
    let count = pictures.size()[0];
    let mut row = |least: f32, most: f32, columns: i64| {
        let numbers: Vec<f32> =
            (0..count * columns).map(|_| if least < most { random.random_range(least..most) } else { most }).collect();
        Tensor::from_slice(&numbers).view([count, columns, 1, 1]).to_device(pictures.device())
    };
    let gains = (row(-how.light, how.light, 1) + row(-how.tint, how.tint, 3)).exp();
    let (blur, noise) = (row(0.0, how.blur, 1), row(0.0, how.noise, 1));
    let tissue = tissue(&pictures);
    if how.light > 0.0 || how.tint > 0.0 {
        pictures *= gains;
    }
    if how.blur > 0.0 {
        // Normalised convolution (Knutsson and Westin, 1993): nothing of the black gets into the tissue.
        let [blurred, share] =
            [&pictures * &tissue, tissue.shallow_clone()].map(|maps| gaussian(&maps, &blur, how.blur));
        pictures = blurred / share.clamp_min(1e-3) * &tissue;
    }
    if how.noise > 0.0 {
        pictures += pictures.randn_like() * noise * &tissue;
    }
    pictures.clamp(0.0, 255.0)
}

/// Blurs `maps`, `[n, c, size, size]`, each of the n by its own `sigma`, `[n, 1, 1, 1]`, of at most `most` pixels.
fn gaussian(maps: &Tensor, sigma: &Tensor, most: f32) -> Tensor {
    let &[count, channels, height, width] = &maps.size()[..] else { unreachable!("pictures have four dimensions") };
    let reach = (most * 3.0).ceil().max(1.0) as i64;
    let offsets = Tensor::arange_start(-reach, reach + 1, (Kind::Float, maps.device())).view([1, 1, -1, 1]);
    // Of a sigma of nearly nothing only the middle is left.
    let kernels = (offsets.square() / (sigma.clamp_min(0.05).square() * -2.0)).exp();
    let kernels = &kernels / kernels.sum_dim_intlist([2].as_slice(), true, Kind::Float);
    let down = kernels.repeat([1, channels, 1, 1]).view([count * channels, 1, 2 * reach + 1, 1]);
    let across = down.transpose(2, 3);
    let (one, none) = ([1, 1], None::<&Tensor>);
    maps.reshape([1, count * channels, height, width])
        .conv2d(&down, none, one, [reach, 0], one, count * channels)
        .conv2d(&across, none, one, [0, reach], one, count * channels)
        .view([count, channels, height, width])
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64;
    use tch::Device;

    use super::*;

    const STILL: Augmentation = Augmentation {
        mirror: false,
        upside_down: false,
        rotation_degrees: 0.0,
        shift: 0.0,
        scale: [1.0, 1.0],
        light: 0.0,
        tint: 0.0,
        blur: 0.0,
        noise: 0.0,
    };

    /// A red square in the black, and what becomes of it.
    fn spoilt(how: &Augmentation) -> [Tensor; 2] {
        let before = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
        let mut square = before.narrow(2, 8, 16).narrow(3, 8, 16);
        square.copy_(&Tensor::from_slice(&[150.0f32, 80.0, 90.0]).view([1, 3, 1, 1]));
        tch::manual_seed(1);
        let after = augment(&before, how, &mut Pcg64::seed_from_u64(1));
        [before, after]
    }

    fn greatest(difference: Tensor) -> f64 {
        difference.abs().max().double_value(&[])
    }

    #[test]
    fn nothing_asked_for_changes_nothing() {
        let [before, after] = spoilt(&STILL);
        assert!(greatest(after - before) < 1e-3);
    }

    #[test]
    fn black_stays_black_and_tissue_changes_within_its_limits() {
        let [before, after] = spoilt(&Augmentation { light: 0.2, tint: 0.1, blur: 1.5, noise: 2.0, ..STILL });
        let tissue = before.sum_dim_intlist([1].as_slice(), true, Kind::Float).gt(0.0).to_kind(Kind::Float);
        assert_eq!(greatest(&after * (1.0 - &tissue)), 0.0, "the black is black");
        let ratio = ((after + 1e-6) / (&before + 1e-6)).log() * &tissue;
        let most = greatest(ratio.shallow_clone());
        // Six standard deviations of noise on 80 beside a factor of at most exp(0.3).
        assert!((0.02..0.3 + 6.0 * 2.0 / 50.0).contains(&most), "{most}");
        assert!(greatest(ratio.get(0) - ratio.get(1)) > 0.01, "each picture is changed by itself");
    }

    #[test]
    fn pixels_are_drawn_from_the_tissue_and_stay_together() {
        let [before, _] = spoilt(&STILL);
        tch::manual_seed(1);
        // There are 16 × 16 of them, all alike; of 20 × 20 the rest is black.
        let drawn = draw_pixels(&before, 20);
        let colour = Tensor::from_slice(&[150.0f32, 80.0, 90.0]).view([1, 3, 1, 1]);
        let tissue = drawn.eq_tensor(&colour).all_dim(1, true);
        assert_eq!(tissue.sum(Kind::Int64).int64_value(&[]), 2 * 256 * STRIDE * STRIDE);
        assert_eq!(greatest(drawn * tissue.logical_not()), 0.0);
    }

    #[test]
    fn blur_takes_detail_and_keeps_the_mean() {
        let stripes =
            Tensor::from_slice(&[200.0f32, 100.0]).repeat([16]).view([1, 1, 1, 32]).expand([1, 3, 32, 32], false);
        let blur = Tensor::from_slice(&[1.5f32]).view([1, 1, 1, 1]);
        let blurred = gaussian(&stripes.contiguous(), &blur, 1.5).narrow(3, 8, 16).narrow(2, 8, 16);
        assert!(greatest(blurred - 150.0) < 1.0);
    }
}
