//! Smooth random textures that need no memory: value noise on a lattice of hashed integers.

/// A number from 0 to 1 that belongs to a lattice point.
pub(super) fn hash(x: i32, y: i32, seed: u32) -> f32 {
    let mut bits = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed;
    // The finaliser of MurmurHash3: every input bit reaches every output bit.
    bits = (bits ^ (bits >> 16)).wrapping_mul(0x85EB_CA6B);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xC2B2_AE35);
    ((bits ^ (bits >> 16)) >> 8) as f32 / (1u32 << 24) as f32
}

/// Value noise, 0 to 1, one bump per unit.
pub(super) fn value(x: f32, y: f32, seed: u32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
    let (fx, fy) = (smooth(x - left), smooth(y - top));
    let (left, top) = (left as i32, top as i32);
    let upper = mix(hash(left, top, seed), hash(left + 1, top, seed), fx);
    let lower = mix(hash(left, top + 1, seed), hash(left + 1, top + 1, seed), fx);
    mix(upper, lower, fy)
}

/// Four octaves of [`value`], −1 to 1.
pub(super) fn cloud(x: f32, y: f32, seed: u32) -> f32 {
    let (mut sum, mut weight, mut scale) = (0.0, 0.5, 1.0);
    for octave in 0..4 {
        sum += (value(x * scale, y * scale, seed ^ octave) * 2.0 - 1.0) * weight;
        weight *= 0.5;
        scale *= 2.1;
    }
    sum
}

/// `a` at 0, `b` at 1.
pub(super) fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// [`mix`] for colours.
pub(super) fn blend(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|channel| mix(a[channel], b[channel], t))
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn ramp(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
