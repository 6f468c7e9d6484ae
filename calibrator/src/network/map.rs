//! What flows through a network.

/// Values in planes: channel after channel, row after row.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Channels, height and width.
    pub shape: [usize; 3],
    /// `channels * height * width` values.
    pub values: Vec<f32>,
}

impl Map {
    /// The pixels of one channel.
    pub fn pixels(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// The channels, one slice each.
    pub fn channels(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.pixels())
    }

    /// Multiplies each channel by a factor.
    pub fn multiply(&mut self, by: &[f32]) {
        let size = self.pixels();
        for (channel, by) in self.values.chunks_exact_mut(size).zip(by) {
            channel.iter_mut().for_each(|x| *x *= by);
        }
    }

    /// Adds a number to each channel.
    pub fn raise(&mut self, by: &[f32]) {
        let size = self.pixels();
        for (channel, by) in self.values.chunks_exact_mut(size).zip(by) {
            channel.iter_mut().for_each(|x| *x += by);
        }
    }
}
