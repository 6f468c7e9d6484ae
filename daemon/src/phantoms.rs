//! `anemiad phantom`: rendered eyes and their masks as files.

use std::path::PathBuf;

use anemia_vision::phantom::Phantom;
use anemia_vision::{Frame, write_png, write_png_grey};
use anyhow::{Context, Result};
use clap::Args;

/// Renders phantoms: eyes with a known mask and a known pallor, for tests of the machine
#[derive(Args)]
pub struct Phantoms {
    /// Folder for the pictures
    #[arg(long)]
    out: PathBuf,
    /// How many
    #[arg(long, default_value_t = 10)]
    count: u64,
    /// Number of the first one; the same number is always the same eye
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Width in pixels
    #[arg(long, default_value_t = 1280, value_parser = clap::value_parser!(u32).range(16..=8192))]
    width: u32,
    /// Height in pixels
    #[arg(long, default_value_t = 720, value_parser = clap::value_parser!(u32).range(16..=8192))]
    height: u32,
}

impl Phantoms {
    /// Writes for each phantom a picture, its mask, and a line in phantoms.csv.
    pub fn run(&self) -> Result<()> {
        for folder in ["pictures", "masks"] {
            let folder = self.out.join(folder);
            std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let mut frame = Frame::default();
        let mut table = String::from("picture,mask,pallor\n");
        for seed in self.seed..self.seed.saturating_add(self.count) {
            let phantom = Phantom::from_seed(seed);
            let roi = phantom.render(width, height, &mut frame);
            let mask = roi.to_mask(width, height);
            // Masks in a folder of their own, so that the pictures can be analyzed as a folder.
            let (picture, outline) =
                (format!("pictures/phantom-{seed:04}.png"), format!("masks/phantom-{seed:04}.png"));
            let write = |name: &str| self.out.join(name);
            write_png(&write(&picture), width, height, frame.rgb()).with_context(|| picture.clone())?;
            write_png_grey(&write(&outline), width, height, &mask).with_context(|| outline.clone())?;
            table += &format!("{picture},{outline},{:.4}\n", phantom.pallor);
        }
        std::fs::write(self.out.join("phantoms.csv"), table).with_context(|| format!("{}", self.out.display()))
    }
}
