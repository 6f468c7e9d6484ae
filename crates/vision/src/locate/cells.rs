//! A mask on a coarse grid of cells, and what is done to clean it.

/// The mask and the memory for working on it. Nothing is allocated for a grid of a size that was seen before.
#[derive(Debug, Default)]
pub(super) struct Cells {
    columns: usize,
    rows: usize,
    inside: Vec<bool>,
    aside: Vec<bool>,
    label: Vec<u32>,
    stack: Vec<usize>,
}

/// A connected part of the mask, by edges of cells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Part {
    label: u32,
    /// How many cells it has.
    pub(super) cells: usize,
    /// The sum of their weights.
    pub(super) weight: f32,
    /// Left, top, right and bottom edge, the latter two not inside.
    pub(super) edges: [usize; 4],
}

impl Cells {
    /// A grid of that size, with the cells inside for which `inside` holds.
    pub(super) fn set(&mut self, columns: usize, rows: usize, inside: impl Fn(usize) -> bool) {
        let cells = columns * rows;
        (self.columns, self.rows) = (columns, rows);
        self.inside.clear();
        self.inside.extend((0..cells).map(inside));
        self.aside.resize(cells, false);
        self.label.resize(cells, 0);
        // Every cell enters the stack at most once for each of its four neighbours.
        self.stack.clear();
        self.stack.reserve(cells * 4);
    }

    pub(super) fn is_inside(&self, at: usize) -> bool {
        self.inside[at]
    }

    /// Erosion (`grow` false) or dilation (`grow` true) by a cross of one cell.
    pub(super) fn morph(&mut self, grow: bool) {
        let (columns, rows) = (self.columns, self.rows);
        for row in 0..rows {
            for column in 0..columns {
                let at = row * columns + column;
                let neighbours = [
                    (column > 0).then(|| at - 1),
                    (column + 1 < columns).then_some(at + 1),
                    (row > 0).then(|| at - columns),
                    (row + 1 < rows).then_some(at + columns),
                ];
                let other = neighbours.into_iter().flatten().any(|neighbour| self.inside[neighbour] == grow);
                self.aside[at] = if grow { self.inside[at] || other } else { self.inside[at] && !other };
            }
        }
        std::mem::swap(&mut self.inside, &mut self.aside);
    }

    /// The two parts of greatest weight, the greatest first; of weight 0 where there are fewer.
    pub(super) fn strongest(&mut self, weight: impl Fn(usize) -> f32) -> [Part; 2] {
        self.label.fill(0);
        let mut best = [Part::default(); 2];
        let mut next = 0;
        for seed in 0..self.inside.len() {
            if self.inside[seed] && self.label[seed] == 0 {
                next += 1;
                let part = self.flood(seed, next, &weight);
                if part.weight > best[0].weight {
                    best = [part, best[0]];
                } else if part.weight > best[1].weight {
                    best[1] = part;
                }
            }
        }
        best
    }

    /// Empties everything but a part that [`strongest`](Self::strongest) gave.
    pub(super) fn keep(&mut self, part: Part) {
        for (inside, &label) in self.inside.iter_mut().zip(&self.label) {
            *inside = part.label != 0 && label == part.label;
        }
    }

    /// Fills what the mask encloses: reflections and vessels.
    pub(super) fn fill_holes(&mut self) {
        let (columns, rows) = (self.columns, self.rows);
        self.label.fill(0);
        let border = (0..columns)
            .flat_map(|column| [column, (rows - 1) * columns + column])
            .chain((0..rows).flat_map(|row| [row * columns, row * columns + columns - 1]));
        for seed in border {
            if !self.inside[seed] && self.label[seed] == 0 {
                self.flood(seed, 1, &|_| 0.0);
            }
        }
        for (inside, &label) in self.inside.iter_mut().zip(&self.label) {
            *inside = label == 0;
        }
    }

    /// Left, top, right and bottom edge of the mask, the latter two not inside; `None` for an empty one.
    pub(super) fn edges(&self) -> Option<[usize; 4]> {
        let mut edges = None;
        for at in (0..self.inside.len()).filter(|&at| self.inside[at]) {
            let place = [at % self.columns, at / self.columns];
            edges = Some(widened(edges.unwrap_or([place[0], place[1], 0, 0]), place));
        }
        edges
    }

    /// Labels the cells that are like `seed` and connected to it.
    fn flood(&mut self, seed: usize, label: u32, weight: &impl Fn(usize) -> f32) -> Part {
        let (columns, rows, like) = (self.columns, self.rows, self.inside[seed]);
        let mut part = Part { label, edges: [usize::MAX, usize::MAX, 0, 0], ..Part::default() };
        self.stack.push(seed);
        while let Some(at) = self.stack.pop() {
            if self.inside[at] != like || self.label[at] != 0 {
                continue;
            }
            self.label[at] = label;
            let (row, column) = (at / columns, at % columns);
            part.cells += 1;
            part.weight += weight(at);
            part.edges = widened(part.edges, [column, row]);
            if column > 0 {
                self.stack.push(at - 1);
            }
            if column + 1 < columns {
                self.stack.push(at + 1);
            }
            if row > 0 {
                self.stack.push(at - columns);
            }
            if row + 1 < rows {
                self.stack.push(at + columns);
            }
        }
        part
    }
}

fn widened([left, top, right, bottom]: [usize; 4], [column, row]: [usize; 2]) -> [usize; 4] {
    [left.min(column), top.min(row), right.max(column + 1), bottom.max(row + 1)]
}
