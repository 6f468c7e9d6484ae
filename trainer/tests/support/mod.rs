//! Data sets made of phantoms, and the program.
// Each test program uses a part of this.
#![allow(dead_code, unused_imports)]

#[path = "../../../tests/common.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use anemia_vision::Frame;
use anemia_vision::phantom::Phantom;
use image::{Rgba, RgbaImage};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

pub use common::{SmallDisk, cutout, data, project, texts};

pub fn anemia_train(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemia-train"));
    command.args(arguments);
    common::with_library(&mut command);
    command
}

/// Tissue that looks like no other: a crescent of its own shape, full of spots.
pub fn crescent(seed: u64) -> RgbaImage {
    let mut random = Pcg64::seed_from_u64(seed);
    let (width, height) = (random.random_range(190..300u32), random.random_range(80..130u32));
    let (bend, thick) = (random.random_range(0.2f32..0.5), random.random_range(0.4f32..0.55));
    let mut red = vec![random.random_range(120.0f32..190.0); (width * height) as usize];
    for _ in 0..400 {
        let (x, y) = (random.random_range(0..width), random.random_range(0..height));
        let (size, strength) = (random.random_range(1.5f32..7.0), random.random_range(-30.0f32..30.0));
        let reach = (size * 3.0) as u32;
        for v in y.saturating_sub(reach)..(y + reach).min(height) {
            for u in x.saturating_sub(reach)..(x + reach).min(width) {
                let distance = (u as f32 - x as f32).powi(2) + (v as f32 - y as f32).powi(2);
                red[(v * width + u) as usize] += strength * (-distance / (2.0 * size * size)).exp();
            }
        }
    }
    RgbaImage::from_fn(width, height, |x, y| {
        let across = x as f32 / width as f32 * 2.0 - 1.0;
        let middle = 0.5 + bend * (0.5 - across * across);
        let half = thick * (1.0 - across * across).max(0.0).sqrt();
        if (y as f32 / height as f32 - middle).abs() > half {
            return Rgba([0; 4]);
        }
        let red = red[(y * width + x) as usize].clamp(30.0, 255.0);
        Rgba([red as u8, (red * 0.6) as u8, (red * 0.55) as u8, 255])
    })
}

/// One picture of a data set.
pub struct One {
    pub picture: RgbaImage,
    pub anemic: bool,
    pub hb: f64,
}

/// Writes pictures and sheet as CP-AnemiC has them.
pub fn write_data_set(folder: &Path, all: &[One]) {
    let mut sheet = String::from(
        "\u{feff}IMAGE_ID,HB_LEVEL,Severity,Age(Months),GENDER,REMARK,HOSPITAL,CITY/TOWN,MUNICIPALITY/DISTRICT,REGION,COUNTRY\n",
    );
    for (index, one) in all.iter().enumerate() {
        let remark = if one.anemic { "Anemic" } else { "Non-anemic" };
        fs::create_dir_all(folder.join(remark)).unwrap();
        one.picture.save(folder.join(remark).join(format!("Image_{index:03}.png"))).unwrap();
        let (hb, age) = (one.hb, 6 + index % 54);
        sheet += &format!("Image_{index:03},{hb},Mild,{age},Female,{remark},Clinic,Town,District,Region,Country\n");
    }
    fs::write(folder.join("Anemia_Data_Collection_Sheet.csv"), sheet).unwrap();
}

/// A column of a table, by name.
pub fn column(table: &Path, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_path(table).unwrap();
    let at = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[at].to_owned()).collect()
}
