//! Which pictures show the same photograph.
//!
//! Points of all pictures go into hash tables, where the points of a copy fall beside those of its original
//! (locality-sensitive hashing with p-stable projections; Datar, Immorlica, Indyk, Mirrokni 2004). Two points in one
//! place say how one picture would lie on the other. Whether it does is then checked pixel by pixel. So the work grows
//! with the number of pictures, and not with its square.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use super::plate::{NUMBERS, Plate, Point};

/// Hash tables: a point of a copy must be found in only one of them.
const TABLES: usize = 6;
/// Projections of one table, and the width of their steps.
const PROJECTIONS: usize = 12;
const STEP: f32 = 2.0;
/// Neighbours that a point is compared with in one place of a table.
const NEIGHBOURS: usize = 24;
/// Pairs of points that are tried for two pictures.
const TRIES: usize = 8;
/// Least share of the smaller tissue that two copies have in common.
const OVERLAP: f64 = 0.3;
/// Pixels of the overlap that are compared, at the most: first, and where that looks promising.
const GLANCE: usize = 300;
const LOOK: usize = 6000;

/// The number of its group for each plate, from 0; plates of one group show one photograph.
///
/// Finds copies that were mirrored, turned by quarters, moved, outlined or cropped anew, made brighter or darker, or
/// compressed again; not those of another size or turned by other angles.
pub fn group(plates: &[Plate]) -> Vec<usize> {
    let candidates = candidates(plates);
    let copies: Vec<(u32, u32)> = candidates
        .par_iter()
        .filter(|(pair, tries)| are_copies(&plates[pair.0 as usize], &plates[pair.1 as usize], tries))
        .map(|(pair, _)| *pair)
        .collect();
    let mut groups = Groups((0..plates.len()).collect());
    for (a, b) in copies {
        groups.join(a as usize, b as usize);
    }
    groups.numbers()
}

type Pair = (u32, u32);

/// Pairs of plates, and for each the pairs of points that lie in one place of a table.
fn candidates(plates: &[Plate]) -> Vec<(Pair, Vec<Pair>)> {
    let mut found: Vec<(Pair, Pair)> = Vec::new();
    for table in 0..TABLES {
        let table = Table::new(table as u64);
        let mut entries: Vec<(u64, u32, u32)> = plates
            .par_iter()
            .enumerate()
            .flat_map_iter(|(plate, one)| {
                let entry = |(point, at): (usize, &Point)| (table.key(at), plate as u32, point as u32);
                one.points.iter().enumerate().map(entry).collect::<Vec<_>>()
            })
            .collect();
        entries.par_sort_unstable();
        for place in entries.chunk_by(|a, b| a.0 == b.0) {
            for (at, &(_, a, point_a)) in place.iter().enumerate() {
                let others = place[at + 1..].iter().take(NEIGHBOURS).filter(|other| other.1 != a);
                found.extend(others.map(|&(_, b, point_b)| ((a, b), (point_a, point_b))));
            }
        }
    }
    found.par_sort_unstable();
    found.dedup();
    found
        .chunk_by(|a, b| a.0 == b.0)
        .map(|same| (same[0].0, same.iter().take(TRIES).map(|one| one.1).collect()))
        .collect()
}

/// One hash table: random directions and offsets.
struct Table {
    directions: Vec<[f32; NUMBERS]>,
    offsets: Vec<f32>,
}

impl Table {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64::seed_from_u64(seed);
        // The sum of twelve even numbers is close enough to a normal one.
        let mut normal = || (0..12).map(|_| random.random_range(-0.5f32..0.5)).sum::<f32>();
        let directions = (0..PROJECTIONS).map(|_| std::array::from_fn(|_| normal())).collect();
        let offsets = (0..PROJECTIONS).map(|_| random.random_range(0.0..STEP)).collect();
        Self { directions, offsets }
    }

    fn key(&self, point: &Point) -> u64 {
        self.directions.iter().zip(&self.offsets).fold(0xcbf2_9ce4_8422_2325, |key, (direction, offset)| {
            let along: f32 = direction.iter().zip(&point.numbers).map(|(a, b)| a * b).sum();
            // FNV-1a over the steps.
            (key ^ (((along + offset) / STEP).floor() as i64 as u64)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Whether the tissue of `b` can be laid on that of `a`, with one of the pairs of points on each other.
fn are_copies(a: &Plate, b: &Plate, tries: &[Pair]) -> bool {
    tries.iter().any(|&(point_a, point_b)| {
        let (at, from) = (&a.points[point_a as usize], &b.points[point_b as usize]);
        (0..8).any(|turn| {
            let lay = |x, y, samples| lay(a, b, (at.x as i64 + x, at.y as i64 + y), from, turn, samples);
            if !lay(0, 0, GLANCE).is_promising() {
                return false;
            }
            // Compression can move a point by a pixel.
            lay(0, 0, LOOK).is_copy() || (-1..=1).any(|y| (-1..=1).any(|x| lay(x, y, LOOK).is_copy()))
        })
    })
}

/// How well one picture lies on another.
#[derive(Clone, Copy, Debug, Default)]
struct Likeness {
    /// Correlation of the grey levels where both are tissue.
    grey: f64,
    /// Correlation of the textures there.
    texture: f64,
    /// The share of all tissue that is common to both.
    common: f64,
}

impl Likeness {
    fn is_promising(self) -> bool {
        self.grey > 0.5 && (self.texture > 0.15 || self.common > 0.8)
    }

    /// The limits lie between the likeness of copies and that of strangers in CP-AnemiC; docs/design/training.md has
    /// the figures.
    fn is_copy(self) -> bool {
        let cropped = self.grey >= 0.995 && self.texture >= 0.3;
        let changed = self.grey >= 0.98 && self.texture >= 0.9;
        // Turned by a few degrees or resized by a few percent: the details are gone, the outline is not.
        let warped = self.grey >= 0.7 && self.texture >= 0.2 && self.common >= 0.84;
        cropped || changed || warped
    }
}

/// Lays `b` on `a` and compares about `samples` pixels; nothing is alike where they have too little in common.
///
/// `turn` is one of the eight ways of turning and mirroring `b` around its point `from`, which comes to lie on `at`.
fn lay(a: &Plate, b: &Plate, at: (i64, i64), from: &Point, turn: u8, samples: usize) -> Likeness {
    let smaller = a.area.min(b.area) as f64;
    let step = ((smaller / samples as f64).sqrt() as usize).max(1);
    let (mut grey, mut texture) = (Sums::default(), Sums::default());
    for y in (0..b.height).step_by(step) {
        for x in (0..b.width).step_by(step) {
            let here = y * b.width + x;
            if b.mask[here] == 0 {
                continue;
            }
            let (mut i, mut j) = (x as i64 - from.x as i64, y as i64 - from.y as i64);
            if turn & 1 != 0 {
                i = -i;
            }
            if turn & 2 != 0 {
                j = -j;
            }
            if turn & 4 != 0 {
                (i, j) = (j, i);
            }
            let (u, v) = (at.0 + i, at.1 + j);
            if u < 0 || v < 0 || u >= a.width as i64 || v >= a.height as i64 {
                continue;
            }
            let there = v as usize * a.width + u as usize;
            if a.mask[there] != 0 {
                grey.add(i64::from(a.grey[there]), i64::from(b.grey[here]));
                texture.add(i64::from(a.texture[there]), i64::from(b.texture[here]));
            }
        }
    }
    let overlap = (grey.count * (step * step) as i64) as f64;
    if overlap < OVERLAP * smaller {
        return Likeness::default();
    }
    let common = overlap / (a.area as f64 + b.area as f64 - overlap);
    Likeness { grey: grey.correlation(), texture: texture.correlation(), common }
}

/// What a correlation is computed from.
#[derive(Default)]
struct Sums {
    count: i64,
    p: i64,
    q: i64,
    pp: i64,
    qq: i64,
    pq: i64,
}

impl Sums {
    fn add(&mut self, p: i64, q: i64) {
        self.count += 1;
        self.p += p;
        self.q += q;
        self.pp += p * p;
        self.qq += q * q;
        self.pq += p * q;
    }

    /// Pearson's correlation; 0 when one side does not vary.
    fn correlation(&self) -> f64 {
        let n = self.count as f64;
        let [p, q, pp, qq, pq] = [self.p, self.q, self.pp, self.qq, self.pq].map(|sum| sum as f64 / n);
        let spread = ((pp - p * p) * (qq - q * q)).sqrt();
        if spread > 0.0 { (pq - p * q) / spread } else { 0.0 }
    }
}

/// Sets that grow together (union-find with path halving).
struct Groups(Vec<usize>);

impl Groups {
    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        // The first member names the group.
        self.0[a.max(b)] = a.min(b);
    }

    fn numbers(mut self) -> Vec<usize> {
        let mut names = HashMap::new();
        (0..self.0.len())
            .map(|at| {
                let next = names.len();
                *names.entry(self.root(at)).or_insert(next)
            })
            .collect()
    }
}
