//! The picture for whoever looks at the page: made beside the exam, from frames that the pixel thread is done with.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anemia_vision::{Frame, Roi, Squeeze, draw_outline};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use tokio::sync::watch;

use crate::slot::Slot;

/// At most ten pictures a second.
const EVERY: Duration = Duration::from_millis(100);
/// Widest and highest picture, in pixels.
const LARGEST: [usize; 2] = [640, 480];
const QUALITY: u8 = 70;
/// Width of the outline in pixels.
const OUTLINE: usize = 2;
const OUTLINE_COLOUR: [u8; 3] = [255, 221, 51];
/// Behind everything else that wants the processor.
const NICE: i32 = 15;

/// A JPEG; empty before the first.
pub type Picture = Arc<[u8]>;

/// The way from the pixel thread to the pages.
#[derive(Debug)]
pub struct Preview {
    inbox: Mutex<Inbox>,
    filled: Condvar,
    pictures: watch::Sender<Picture>,
}

#[derive(Debug, Default)]
struct Inbox {
    frame: Option<Frame>,
    roi: Roi,
    due: Option<Instant>,
    closed: bool,
}

impl Default for Preview {
    fn default() -> Self {
        let pictures = watch::Sender::new(Picture::from([]));
        Self { inbox: Mutex::default(), filled: Condvar::new(), pictures }
    }
}

impl Preview {
    /// Follows the pictures. As long as somebody does, they are made.
    pub fn watch(&self) -> watch::Receiver<Picture> {
        self.pictures.subscribe()
    }

    /// Takes a frame that was analysed, with the tissue in it, or gives it back when no picture of it is needed.
    pub fn offer(&self, frame: Frame, roi: &Roi) -> Option<Frame> {
        if self.pictures.receiver_count() == 0 {
            return Some(frame);
        }
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if inbox.due.is_some_and(|due| now < due) || inbox.frame.is_some() || inbox.closed {
            return Some(frame);
        }
        // Frames come when the camera wants: what one was late by, the next may be early.
        inbox.due = Some(inbox.due.map_or(now + EVERY, |due| (due + EVERY).max(now + EVERY / 2)));
        inbox.roi.clone_from(roi);
        inbox.frame = Some(frame);
        self.filled.notify_one();
        None
    }

    /// Ends [`Preview::run`].
    pub fn close(&self) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.filled.notify_one();
    }

    /// Makes pictures until it is closed. Frames go back into the slot, from which they came.
    pub fn run(&self, slot: &Slot) {
        // Without the right to, it runs as everything else does.
        let _ = rustix::process::setpriority_process(None, NICE);
        let (mut painter, mut roi) = (Painter::default(), Roi::default());
        loop {
            let waiting = |inbox: &mut Inbox| inbox.frame.is_none() && !inbox.closed;
            let locked = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            let mut inbox = self.filled.wait_while(locked, waiting).unwrap_or_else(PoisonError::into_inner);
            let Some(frame) = inbox.frame.take() else { return };
            std::mem::swap(&mut inbox.roi, &mut roi);
            drop(inbox);
            if let Some(picture) = painter.picture(&frame, &roi) {
                self.pictures.send_replace(picture);
            }
            slot.give_back(frame);
        }
    }
}

/// Makes pictures, in memory that it keeps.
#[derive(Default)]
struct Painter {
    squeeze: Squeeze,
    small: Frame,
    roi: Roi,
    jpeg: Vec<u8>,
}

impl Painter {
    /// A small picture of a frame with the tissue outlined; `None` for an empty one.
    fn picture(&mut self, frame: &Frame, roi: &Roi) -> Option<Picture> {
        let (width, height) = (frame.width(), frame.height());
        if width == 0 || height == 0 {
            return None;
        }
        let share = (LARGEST[0] as f64 / width as f64).min(LARGEST[1] as f64 / height as f64).min(1.0);
        let [across, down] = [width, height].map(|side| ((side as f64 * share).round() as usize).max(1));
        let pixels = if share < 1.0 { self.squeeze.squeeze(frame, across, down) } else { frame.rgb() };
        self.small.set_rgb(across, down, pixels);
        if !roi.is_empty() {
            // The outline of the small picture: at its edges there are fewer pixels to ask.
            let [left, right] = [roi.x() * across / width, ((roi.x() + roi.width()) * across).div_ceil(width)];
            let [top, bottom] = [roi.y() * down / height, ((roi.y() + roi.height()) * down).div_ceil(height)];
            let inside = |x: usize, y: usize| roi.contains(x * width / across, y * height / down);
            self.roi.set_from(left, top, right.min(across), bottom.min(down), inside);
            draw_outline(&mut self.small, &self.roi, OUTLINE_COLOUR, OUTLINE);
        }
        self.jpeg.clear();
        let mut encoder = Encoder::new(&mut self.jpeg, QUALITY);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(self.small.rgb(), across as u16, down as u16, ColorType::Rgb).ok()?;
        Some(Picture::from(self.jpeg.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_looks_and_nothing_is_made() {
        let preview = Preview::default();
        assert!(preview.offer(Frame::new(8, 8), &Roi::default()).is_some());
    }

    #[test]
    fn a_picture_is_made_of_one_frame_at_a_time_and_the_frame_comes_back() {
        let (preview, slot) = (Arc::new(Preview::default()), Arc::new(Slot::new()));
        let mut pictures = preview.watch();
        assert!(preview.offer(Frame::new(1280, 720), &Roi::default()).is_none());
        assert!(preview.offer(Frame::new(1280, 720), &Roi::default()).is_some(), "too early");
        let thread = std::thread::spawn({
            let (preview, slot) = (preview.clone(), slot.clone());
            move || preview.run(&slot)
        });
        while !pictures.has_changed().unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let made = pictures.borrow_and_update().clone();
        let read = image::load_from_memory(&made).unwrap();
        assert_eq!((read.width(), read.height()), (640, 360));
        preview.close();
        thread.join().unwrap();
        assert_eq!(slot.spare().width(), 1280);
    }

    #[test]
    fn the_tissue_is_outlined_and_pictures_of_any_size_are_made() {
        let (mut painter, mut roi) = (Painter::default(), Roi::default());
        roi.set_from(400, 200, 600, 300, |_, _| true);
        let made = painter.picture(&Frame::new(1280, 720), &roi).unwrap();
        let read = image::load_from_memory(&made).unwrap().to_rgb8();
        let [red, green, blue] = read.get_pixel(199, 125).0;
        assert!(red > 150 && green > 120 && blue < 120, "{red} {green} {blue}");
        for (width, height) in [(1, 1), (640, 480), (480, 640), (3840, 2160), (17, 1000)] {
            assert!(painter.picture(&Frame::new(width, height), &roi).is_some());
        }
        assert!(painter.picture(&Frame::default(), &Roi::default()).is_none());
    }
}
