//! `anemia-calibrate report`: what quantization costs, on networks and pictures that do not know each other.

mod layers;
mod measure;
mod page;
mod paper;
mod speed;
mod text;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;

use crate::Recipe;
use crate::files::write_text;
use crate::folds::Run;
use measure::Measured;

/// Quantizes the network of every fold with pictures that it was trained on, and measures it on those that it was not.
#[derive(Args)]
pub(crate) struct Report {
    /// Folders of `anemia-train cv`; give one of each protocol
    #[arg(long, required = true, num_args = 1..)]
    run: Vec<PathBuf>,
    /// Folders of `anemia-train qat` that were made from these runs; they are shown as rows of their own
    #[arg(long, num_args = 1..)]
    qat: Vec<PathBuf>,
    /// Folder with the pictures
    #[arg(long)]
    data: PathBuf,
    /// `paper`, `best`, or a YAML file
    #[arg(long, default_value = "best")]
    recipe: String,
    /// Calibration pictures for each fold
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pictures: u32,
    /// Write the report as a web page, which shows the pictures whose verdict changed from where they lie
    #[arg(long)]
    html: Option<PathBuf>,
    /// Write the figures as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Report {
    pub(crate) fn run(&self) -> Result<()> {
        let recipe = Recipe::find(&self.recipe)?;
        let read = |folders: &[PathBuf]| folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>>>();
        let (runs, tuned) = (read(&self.run)?, read(&self.qat)?);
        let of = |run: &Run| tuned.iter().find(|tuned| tuned.teacher.as_ref() == Some(&run.sha256));
        for one in &tuned {
            let has_run = runs.iter().any(|run| one.teacher.as_ref() == Some(&run.sha256));
            ensure!(has_run, "--qat {}: was not made from one of the folders of --run", one.folder.display());
        }
        let mut all = Vec::new();
        for run in &runs {
            let measured = Measured::of(run, of(run), &self.data, &recipe, self.pictures)?;
            text::print(&measured);
            all.push(measured);
        }
        text::print_paper();
        if let Some(path) = &self.json {
            let all = json!({ "recipe": recipe, "pictures": self.pictures, "runs": all, "paper": paper::ROWS });
            write_text(path, &serde_json::to_string_pretty(&all)?)?;
        }
        if let Some(path) = &self.html {
            let data = std::fs::canonicalize(&self.data)?;
            let recipe = serde_yaml::to_string(&recipe)?;
            write_text(path, &page::page(&all, &recipe, self.pictures, &data).into_string())?;
        }
        Ok(())
    }
}
