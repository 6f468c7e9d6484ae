//! Learning to find the conjunctiva in a picture of a whole eye.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64;
use tch::{Device, Kind, Tensor};

use super::{Epoch, Mode, Task, Weights, forward};
use crate::network::{Network, Parameter, Role};

/// Photographs in one step; with them come a phantom, a picture without a conjunctiva, and a photograph or a phantom that is
/// upside down, in which nothing is to be found either.
const PHOTOGRAPHS: usize = 7;
/// Indices from here on are those of pictures that are turned upside down.
const UPSIDE_DOWN: usize = 1 << 32;
/// The first layers of the encoder, which see edges and colours, stay as ImageNet made them.
const FROZEN: [&str; 4] = ["features.0.", "features.1.", "features.2.", "features.3."];

/// Pictures of whole eyes with their masks, squeezed to squares of one size.
pub(crate) struct Eyes {
    /// `[n, 4, side, side]`, bytes: red, green, blue, and 255 where the conjunctiva is.
    pub(crate) planes: Tensor,
    /// Width of each picture in heights, before it was squeezed.
    pub(crate) aspects: Vec<f32>,
    /// The middle of each mask, from −1 to 1.
    pub(crate) centres: Vec<[f32; 2]>,
}

/// A locator that learns from some of the photographs and from everything that is rendered.
pub(crate) struct Locator<'a> {
    pub(crate) network: &'a Network,
    pub(crate) photographs: &'a Eyes,
    pub(crate) phantoms: &'a Eyes,
    /// Pictures without a conjunctiva.
    pub(crate) empty: &'a Eyes,
    /// The photographs that are trained on.
    pub(crate) train: Vec<usize>,
    /// Width and height of the network's input.
    pub(crate) size: i64,
}

impl Task for Locator<'_> {
    fn rate(&self, parameter: &Parameter) -> f64 {
        if FROZEN.iter().any(|start| parameter.name.starts_with(start)) {
            0.0
        } else if parameter.name.starts_with("features.") {
            0.5
        } else {
            1.0
        }
    }

    fn decay(&self, parameter: &Parameter) -> f64 {
        if parameter.role == Role::Kernel { 0.01 } else { 0.0 }
    }

    /// Every photograph once, and with each handful the others. Indices go on through the three sets, and from
    /// [`UPSIDE_DOWN`] on once more.
    fn batches(&self, random: &mut Pcg64) -> Vec<Vec<usize>> {
        let mut order = self.train.clone();
        order.shuffle(random);
        let [photographs, phantoms, empty] = self.sets().map(|eyes| eyes.aspects.len());
        let batch = |some: &[usize]| {
            let phantom = photographs + random.random_range(0..phantoms);
            let empty = photographs + phantoms + random.random_range(0..empty);
            let turned = if random.random_range(0..2) == 0 {
                photographs + random.random_range(0..phantoms)
            } else {
                self.train[random.random_range(0..self.train.len())]
            };
            some.iter().copied().chain([phantom, empty, UPSIDE_DOWN + turned]).collect()
        };
        order.chunks(PHOTOGRAPHS).map(batch).collect()
    }

    fn loss(&self, weights: &Weights, batch: &[usize], random: &mut Pcg64) -> (Tensor, f64) {
        let device = weights.trained.device();
        let (mut planes, mut transforms) = (Vec::new(), Vec::new());
        for &index in batch {
            let (eyes, at) = self.picture(index % UPSIDE_DOWN);
            let upright = index < UPSIDE_DOWN;
            let picture = eyes.planes.get(at as i64);
            planes.push(if upright { picture } else { without_mask(&picture) });
            transforms.extend(window(eyes.aspects[at], eyes.centres[at], upright, random));
        }
        let planes = Tensor::stack(&planes, 0).to_kind(Kind::Float) / 255.0;
        let transforms = Tensor::from_slice(&transforms).view([batch.len() as i64, 2, 3]).to_device(device);
        let size = [batch.len() as i64, 5, self.size, self.size];
        let inside = planes.narrow(1, 0, 1).ones_like();
        let grid = Tensor::affine_grid_generator(&transforms, size, false);
        let seen = Tensor::cat(&[planes, inside], 1).grid_sampler(&grid, 0, 0, false);
        let pictures = recolour(&seen.narrow(1, 0, 3), &seen.narrow(1, 4, 1), random) * 2.0 - 1.0;
        let masks = seen.narrow(1, 3, 1).avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);

        let mode = Mode { batch_statistics: |name| !name.starts_with("features."), dropout: 0.0, apart: false };
        let logits = forward(self.network, weights, &pictures, mode);
        let hits = overlap(&logits.gt(0.0).to_kind(Kind::Float), &masks).sum(Kind::Float).double_value(&[]);
        (loss(&logits, &masks), hits)
    }

    fn note(&self, mean: f64, row: &mut Epoch) {
        row.iou = Some(mean);
    }

    fn validate(&self, _weights: &Weights, _row: &mut Epoch) -> Option<f64> {
        None
    }
}

impl Locator<'_> {
    fn sets(&self) -> [&Eyes; 3] {
        [self.photographs, self.phantoms, self.empty]
    }

    /// The set that an index belongs to, and its place there.
    fn picture(&self, mut index: usize) -> (&Eyes, usize) {
        for eyes in [self.photographs, self.phantoms] {
            if index < eyes.aspects.len() {
                return (eyes, index);
            }
            index -= eyes.aspects.len();
        }
        (self.empty, index)
    }
}

/// Binary cross-entropy plus one minus the soft Dice coefficient (Milletari, Navab, Ahmadi 2016).
fn loss(logits: &Tensor, masks: &Tensor) -> Tensor {
    let none = None::<&Tensor>;
    let entropy = logits.binary_cross_entropy_with_logits(masks, none, none, tch::Reduction::Mean);
    let found = logits.sigmoid();
    let dice = (sum(&(&found * masks)) * 2.0 + 1.0) / (sum(&found) + sum(masks) + 1.0);
    entropy + 1.0 - dice.mean(Kind::Float)
}

/// Intersection over union of each picture.
fn overlap(found: &Tensor, masks: &Tensor) -> Tensor {
    let masks = masks.gt(0.5).to_kind(Kind::Float);
    let both = sum(&(found * &masks));
    let either = sum(found) + sum(&masks) - &both;
    // Nothing, found where nothing is, is right.
    (&both + either.eq(0.0)) / either.clamp_min(1.0)
}

fn sum(maps: &Tensor) -> Tensor {
    maps.sum_dim_intlist([1, 2, 3].as_slice(), false, None::<Kind>)
}

/// The same picture, in which there is nothing to be found.
fn without_mask(picture: &Tensor) -> Tensor {
    let colours = picture.narrow(0, 0, 3);
    Tensor::cat(&[&colours, &colours.narrow(0, 0, 1).zeros_like()], 0)
}

/// A random window onto a picture: where in it, from −1 to 1, the points of the window lie; a matrix of two rows.
fn window(aspect: f32, [across, down]: [f32; 2], upright: bool, random: &mut Pcg64) -> [f32; 6] {
    let mut between = |low: f32, high: f32| random.random_range(low..high);
    // The eye up to 1.6 times as large, down to 0.6 times; the window as wide as the picture, or of another shape.
    let scale = between(0.6f32.ln(), 1.6f32.ln()).exp();
    let own_shape = between(0.0, 1.0) < 0.5;
    let shape = between(0.6f32.ln(), 1.8f32.ln()).exp();
    let shape = if own_shape { aspect } else { shape };
    // In heights of the picture; the area is the picture's, divided by the square of the scale.
    let (width, height) = ((aspect * shape).sqrt() / scale, (aspect / shape).sqrt() / scale);
    let (sine, cosine) = (between(-30.0f32, 30.0) + if upright { 0.0 } else { 180.0 }).to_radians().sin_cos();
    let mirror = if between(0.0, 1.0) < 0.5 { -1.0 } else { 1.0 };
    // Between the middle of the picture and that of the mask, and a bit to the side.
    let towards = between(0.0, 1.0);
    let x = towards * across * aspect / 2.0 + between(-0.2, 0.2) * width;
    let y = towards * down / 2.0 + between(-0.2, 0.2) * height;
    [
        cosine * width / aspect * mirror,
        -sine * height / aspect,
        2.0 * x / aspect,
        sine * width * mirror,
        cosine * height,
        2.0 * y,
    ]
}

/// Other light, another camera, a bit of blur and noise: for the locator colour is not the signal, as it is for the
/// classifier. Outside the picture there is black or any colour.
fn recolour(pictures: &Tensor, inside: &Tensor, random: &mut Pcg64) -> Tensor {
    let (count, device) = (pictures.size()[0], pictures.device());
    let mut draw = |low: f32, high: f32, channels: i64| {
        let values: Vec<f32> = (0..count * channels).map(|_| random.random_range(low..high)).collect();
        Tensor::from_slice(&values).view([count, channels, 1, 1]).to_device(device)
    };
    let gamma = draw(-0.3, 0.3, 1).exp();
    let mut all = pictures.clamp(1e-4, 1.0).pow(&gamma) * draw(-0.5, 0.4, 1).exp() * draw(-0.22, 0.22, 3).exp();
    let mean = all.mean_dim([1, 2, 3].as_slice(), true, None::<Kind>);
    all = (&all - &mean) * draw(0.7, 1.3, 1) + &mean;
    let grey = all.mean_dim([1].as_slice(), true, None::<Kind>);
    all = (&all - &grey) * draw(0.6, 1.4, 1) + &grey;
    let kernel = Tensor::from_slice(&[1.0f32, 4.0, 6.0, 4.0, 1.0]).to_device(device) / 16.0;
    let kernel = (kernel.view([5, 1]) * kernel.view([1, 5])).expand([3, 1, 5, 5], false).contiguous();
    let blurred = all.replication_pad2d([2, 2, 2, 2]).conv2d(&kernel, None::<&Tensor>, [1, 1], [0, 0], [1, 1], 3);
    all = &all + (blurred - &all) * draw(-1.0, 1.0, 1).clamp_min(0.0);
    all = &all + all.randn_like() * draw(-0.04, 0.04, 1).clamp_min(0.0);
    let outside = draw(0.0, 1.0, 3) * draw(0.0, 1.0, 1).gt(0.5).to_kind(Kind::Float);
    all.clamp(0.0, 1.0) * inside + outside * (inside * -1.0 + 1.0)
}

/// The map of one picture of `size` × `size` pixels, R, G, B: a logit for each 2 × 2 of them.
pub(crate) fn locate(network: &Network, weights: &Weights, pixels: &[u8], size: i64) -> Vec<f32> {
    let _guard = tch::no_grad_guard();
    let picture = Tensor::from_slice(pixels).view([1, size, size, 3]).permute([0, 3, 1, 2]).to_kind(Kind::Float);
    let picture = (picture / 127.5 - 1.0).to_device(weights.trained.device());
    let map = forward(network, weights, &picture, Mode::MEASURE).to_device(Device::Cpu).contiguous().view(-1);
    Vec::<f32>::try_from(&map).expect("the map was made one-dimensional and holds 32-bit floats")
}
