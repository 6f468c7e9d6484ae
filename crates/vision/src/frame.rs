//! One picture in memory.

/// One picture: 8-bit sRGB, three bytes a pixel, rows packed from the top left, with an optional alpha plane.
///
/// A frame keeps its memory when it is [reset](Frame::reset) to another size, so that a camera can fill the same
/// few frames for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    alpha: Vec<u8>,
}

impl Frame {
    /// A black frame of `width` × `height` pixels without alpha.
    pub fn new(width: usize, height: usize) -> Self {
        let mut frame = Self::default();
        frame.reset(width, height);
        frame
    }

    /// Makes this a black frame of the given size without alpha. Memory is reused.
    pub fn reset(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.rgb.clear();
        self.rgb.resize(width * height * 3, 0);
        self.alpha.clear();
    }

    /// Gives this another size without alpha; what its pixels are is not said. Memory is reused.
    pub(crate) fn resize(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.rgb.resize(width * height * 3, 0);
        self.alpha.clear();
    }

    /// Makes this a copy of `other`. Memory is reused.
    pub fn copy_from(&mut self, other: &Frame) {
        self.width = other.width;
        self.height = other.height;
        self.rgb.clone_from(&other.rgb);
        self.alpha.clone_from(&other.alpha);
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All pixels, `width * height * 3` bytes: R, G, B.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// All pixels, to write.
    pub fn rgb_mut(&mut self) -> &mut [u8] {
        &mut self.rgb
    }

    /// One pixel. Panics outside the frame, like indexing does.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// The alpha plane, `width * height` bytes, if the picture came with one.
    pub fn alpha(&self) -> Option<&[u8]> {
        (!self.alpha.is_empty()).then_some(&self.alpha[..])
    }

    /// Splits packed RGBA bytes into this frame. `rgba` must hold `width * height * 4` bytes.
    pub fn set_rgba(&mut self, width: usize, height: usize, rgba: &[u8]) {
        assert_eq!(rgba.len(), width * height * 4, "RGBA bytes do not match the size of the picture");
        self.width = width;
        self.height = height;
        self.rgb.clear();
        self.alpha.clear();
        self.rgb.extend(rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]));
        self.alpha.extend(rgba.chunks_exact(4).map(|p| p[3]));
    }

    /// Takes packed RGB bytes. `rgb` must hold `width * height * 3` bytes.
    pub fn set_rgb(&mut self, width: usize, height: usize, rgb: &[u8]) {
        assert_eq!(rgb.len(), width * height * 3, "RGB bytes do not match the size of the picture");
        self.width = width;
        self.height = height;
        self.rgb.clear();
        self.rgb.extend_from_slice(rgb);
        self.alpha.clear();
    }
}
