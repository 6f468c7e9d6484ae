//! Which pictures show the same photograph.
//!
//! Points of all pictures go into hash tables, where the points of a copy fall beside those of its original
//! (locality-sensitive hashing with p-stable projections; Datar, Immorlica, Indyk, Mirrokni 2004). Two points in one
//! place with the same surroundings say how one picture would lie on the other. Whether it does is then checked pixel by
//! pixel. So the work grows with the number of pictures, and not with its square.

use std::collections::HashMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use super::plate::{Plate, Point, SAMPLES, Turn, turned};

/// Hash tables: a point of a copy must be found in only one of them.
const TABLES: usize = 6;
/// Projections of one table, and the width of their steps.
const PROJECTIONS: usize = 12;
const STEP: f32 = 2.0;
/// Neighbours on either side that a point is compared with in its place of a table. Where the place is crowded, these are
/// the nearest along one more projection; so the work for one point has a limit.
const NEIGHBOURS: usize = 6;
/// Least correlation of the samples of two points that may be one.
const ALIKE: f32 = 0.9;
/// Pixels by which two matches may disagree about how one picture lies on another.
const NEAR: i64 = 3;
/// Matches that must agree; one is enough where one of the pictures has few points.
const VOTES: usize = 2;
const FEW: usize = 30;
/// Matches that are tried for two pictures; those first that most others agree with.
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
    let firsts: Vec<usize> =
        plates.iter().scan(0, |next, plate| Some(std::mem::replace(next, *next + plate.points.len()))).collect();
    let tables: Vec<Table> = (0..TABLES).map(|seed| Table::of(plates, &firsts, seed as u64)).collect();
    let copies: Vec<(usize, usize)> = (0..plates.len())
        .into_par_iter()
        .flat_map_iter(|plate| {
            let copies_of_it = |same: &[Match]| are_copies(&plates[plate], &plates[same[0].plate as usize], same);
            let matches = matches(plates, plate, firsts[plate], &tables);
            let copies = matches.chunk_by(|a, b| a.plate == b.plate).filter(|same| copies_of_it(same));
            copies.map(|same| (plate, same[0].plate as usize)).collect::<Vec<_>>()
        })
        .collect();
    let mut groups = Groups((0..plates.len()).collect());
    for (a, b) in copies {
        groups.join(a, b);
    }
    groups.numbers()
}

/// A point of a later plate that looks like one of this plate, once its picture is turned.
#[derive(Clone, Copy, PartialEq)]
struct Match {
    plate: u32,
    point: u32,
    of: u32,
    turn: Turn,
}

/// What looks like the points of a plate, of which `first` is the number of the first, in the order of the other plates.
fn matches(plates: &[Plate], plate: usize, first: usize, tables: &[Table]) -> Vec<Match> {
    let mut found = Vec::new();
    for table in tables {
        for (of, point) in plates[plate].points.iter().enumerate() {
            for other in table.neighbours(first + of).filter(|other| other.plate as usize > plate) {
                let (turn, likeness) = point.likest(&plates[other.plate as usize].points[other.point as usize]);
                if likeness >= ALIKE {
                    found.push(Match { plate: other.plate, point: other.point, of: of as u32, turn });
                }
            }
        }
    }
    found.sort_unstable_by_key(|one| (one.plate, one.of, one.point));
    found.dedup();
    found
}

/// One hash table: points in the order of their places, and where each of them is.
struct Table {
    entries: Vec<Entry>,
    /// Where in `entries` each point is, plate after plate.
    at: Vec<u32>,
}

/// A point in a hash table.
#[derive(Clone, Copy)]
struct Entry {
    place: u64,
    along: f32,
    plate: u32,
    point: u32,
}

impl Table {
    /// `firsts` holds the number of each plate's first point, counted through all plates.
    fn of(plates: &[Plate], firsts: &[usize], seed: u64) -> Self {
        let projections = Projections::new(seed);
        let mut entries: Vec<Entry> = plates
            .par_iter()
            .enumerate()
            .flat_map_iter(|(plate, one)| {
                let projections = &projections;
                one.points.iter().enumerate().map(move |(point, at)| {
                    let (place, along) = projections.look_up(at);
                    Entry { place, along, plate: plate as u32, point: point as u32 }
                })
            })
            .collect();
        entries.par_sort_unstable_by(|a, b| {
            a.place.cmp(&b.place).then(a.along.total_cmp(&b.along)).then((a.plate, a.point).cmp(&(b.plate, b.point)))
        });
        let mut at = vec![0; entries.len()];
        for (index, entry) in entries.iter().enumerate() {
            at[firsts[entry.plate as usize] + entry.point as usize] = index as u32;
        }
        Self { entries, at }
    }

    /// The points in the place of this one that are nearest to it.
    fn neighbours(&self, point: usize) -> impl Iterator<Item = &Entry> {
        let at = self.at[point] as usize;
        let here = move |other: &&Entry| other.place == self.entries[at].place;
        let before = self.entries[..at].iter().rev().take(NEIGHBOURS).take_while(here);
        before.chain(self.entries[at + 1..].iter().take(NEIGHBOURS).take_while(here))
    }
}

/// Random directions and offsets that say where in a table a point belongs.
struct Projections {
    directions: Vec<[f32; SAMPLES]>,
    offsets: Vec<f32>,
    order: [f32; SAMPLES],
}

impl Projections {
    fn new(seed: u64) -> Self {
        let mut random = Pcg64::seed_from_u64(seed);
        // The sum of twelve even numbers is close enough to a normal one.
        let mut normal = || (0..12).map(|_| random.random_range(-0.5f32..0.5)).sum::<f32>();
        let directions = (0..PROJECTIONS).map(|_| std::array::from_fn(|_| normal())).collect();
        let order = std::array::from_fn(|_| normal());
        let offsets = (0..PROJECTIONS).map(|_| random.random_range(0.0..STEP)).collect();
        Self { directions, offsets, order }
    }

    /// The place of a point, and where it lies there.
    fn look_up(&self, point: &Point) -> (u64, f32) {
        let numbers = point.numbers();
        let along = |direction: &[f32; SAMPLES]| direction.iter().zip(&numbers).map(|(a, b)| a * b).sum::<f32>();
        let place =
            self.directions.iter().zip(&self.offsets).fold(0xcbf2_9ce4_8422_2325, |place, (direction, offset)| {
                // FNV-1a over the steps.
                (place ^ (((along(direction) + offset) / STEP).floor() as i64 as u64)).wrapping_mul(0x0100_0000_01b3)
            });
        (place, along(&self.order))
    }
}

/// Whether the tissue of `b` can be laid on that of `a`, with points that match on each other.
fn are_copies(a: &Plate, b: &Plate, matches: &[Match]) -> bool {
    let needed = if a.points.len().min(b.points.len()) < FEW { 1 } else { VOTES };
    // Of strangers, who are nearly all, most have a single one.
    if matches.len() < needed {
        return false;
    }
    // Where a match says that the first pixel of `b` comes to lie.
    let corner = |one: &Match| {
        let (at, from) = (&a.points[one.of as usize], &b.points[one.point as usize]);
        let (x, y) = turned(one.turn, from.x as i64, from.y as i64);
        (at.x as i64 - x, at.y as i64 - y)
    };
    let laid: Vec<(Turn, (i64, i64))> = matches.iter().map(|one| (one.turn, corner(one))).collect();
    let votes = |(turn, (x, y)): &(Turn, (i64, i64))| {
        let agrees = |(t, (u, v)): &&(Turn, (i64, i64))| t == turn && (x - u).abs() <= NEAR && (y - v).abs() <= NEAR;
        laid.iter().filter(agrees).count()
    };
    let mut ranked: Vec<(usize, &Match)> = laid.iter().map(votes).zip(matches).collect();
    ranked.sort_by_key(|one| std::cmp::Reverse(one.0));
    ranked.iter().take_while(|one| one.0 >= needed).take(TRIES).any(|(_, one)| {
        let (at, from) = (&a.points[one.of as usize], &b.points[one.point as usize]);
        let lay = |x, y, samples| lay(a, b, (at.x as i64 + x, at.y as i64 + y), from, one.turn, samples);
        if !lay(0, 0, GLANCE).is_promising() {
            return false;
        }
        // Compression can move a point by a pixel.
        lay(0, 0, LOOK).is_copy() || (-1..=1).any(|y| (-1..=1).any(|x| lay(x, y, LOOK).is_copy()))
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
fn lay(a: &Plate, b: &Plate, at: (i64, i64), from: &Point, turn: Turn, samples: usize) -> Likeness {
    let smaller = a.area.min(b.area) as f64;
    let step = ((smaller / samples as f64).sqrt() as usize).max(1);
    let (mut grey, mut texture) = (Sums::default(), Sums::default());
    for y in (0..b.height).step_by(step) {
        for x in (0..b.width).step_by(step) {
            let here = y * b.width + x;
            if b.mask[here] == 0 {
                continue;
            }
            let (i, j) = turned(turn, x as i64 - from.x as i64, y as i64 - from.y as i64);
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
