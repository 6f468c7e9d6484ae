//! `anemia-train audit`: copies that were changed are found, strangers are not, and folds do not leak.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use image::imageops::{self, crop_imm};
use image::{DynamicImage, ImageFormat, Rgba, RgbaImage};
use support::{One, anemia_train, column, crescent, data, texts, write_data_set};

/// Pairs of paths that are in one group.
fn pairs(table: &Path) -> BTreeSet<(String, String)> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, group) in column(table, "path").into_iter().zip(column(table, "photo_group")) {
        groups.entry(group).or_default().push(path);
    }
    let pairs_of = |mut group: Vec<String>| {
        group.sort();
        let pairs = (0..group.len()).flat_map(|a| (a + 1..group.len()).map(move |b| (a, b)));
        pairs.map(|(a, b)| (group[a].clone(), group[b].clone())).collect::<Vec<_>>()
    };
    groups.into_values().flat_map(pairs_of).collect()
}

fn audit(data: &Path, out: &Path) -> String {
    let output = anemia_train(&["audit"]).arg("--data").arg(data).arg("--out").arg(out).output().unwrap();
    let (text, errors, code) = texts(&output);
    assert_eq!(code, Some(0), "{errors}");
    text
}

/// Colours as they come back from a JPEG file, with the old transparency.
fn compressed(picture: &RgbaImage) -> RgbaImage {
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::ImageRgba8(picture.clone()).to_rgb8().write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
    let colours = image::load_from_memory(&bytes.into_inner()).unwrap().to_rgb8();
    RgbaImage::from_fn(picture.width(), picture.height(), |x, y| {
        let ([r, g, b], alpha) = (colours.get_pixel(x, y).0, picture.get_pixel(x, y).0[3]);
        if alpha == 0 { Rgba([0; 4]) } else { Rgba([r, g, b, alpha]) }
    })
}

/// The ways in which a photograph comes back in a data set.
fn copies(original: &RgbaImage) -> Vec<RgbaImage> {
    let (width, height) = original.dimensions();
    let mut moved = RgbaImage::new(width + 30, height + 17);
    imageops::overlay(&mut moved, original, 21, 9);
    // Outlined again: the left fifth and a strip at the bottom are gone.
    let cropped = crop_imm(original, width / 5, 0, width - width / 5, height - height / 12).to_image();
    let brighter = RgbaImage::from_fn(width, height, |x, y| {
        let Rgba([r, g, b, a]) = *original.get_pixel(x, y);
        let up = |value: u8| if a == 0 { 0 } else { (f32::from(value) * 0.9 + 12.0) as u8 };
        Rgba([up(r), up(g), up(b), a])
    });
    vec![
        imageops::flip_horizontal(original),
        imageops::rotate90(original),
        imageops::flip_vertical(&imageops::rotate270(original)),
        moved,
        cropped,
        brighter,
        compressed(original),
    ]
}

#[test]
fn changed_copies_are_found_and_strangers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for seed in 0..24 {
        let original = crescent(seed);
        let changed = copies(&original);
        for picture in std::iter::once(original).chain(changed) {
            all.push(One { picture, anemic: seed % 2 == 0, hb: 11.0 });
        }
    }
    write_data_set(folder.path(), &all);
    let out = folder.path().join("out");
    audit(folder.path(), &out);
    let found = pairs(&out.join("groups.csv"));
    let number = |path: &str| path[path.len() - 7..path.len() - 4].parse::<usize>().unwrap() / 8;
    let right = found.iter().filter(|(a, b)| number(a) == number(b)).count();
    let wanted = 24 * 8 * 7 / 2;
    println!("{right} of {wanted} pairs found, {} wrong ones", found.len() - right);
    assert_eq!(found.len(), right, "strangers were joined");
    assert!(right as f64 >= 0.98 * wanted as f64, "{right} of {wanted}");
}

#[test]
fn contradictions_are_told_and_folds_do_not_leak() {
    let folder = tempfile::tempdir().unwrap();
    let mut all: Vec<One> = (0..40)
        .map(|seed| One { picture: crescent(seed), anemic: seed % 2 == 0, hb: 9.0 + (seed % 5) as f64 })
        .collect();
    // The same photograph, once called anemic and once not.
    all.push(One { picture: imageops::flip_horizontal(&crescent(0)), anemic: false, hb: 12.5 });
    write_data_set(folder.path(), &all);
    // A label without a picture, and a picture without a label.
    fs::remove_file(folder.path().join("Anemic/Image_004.png")).unwrap();
    all[5].picture.save(folder.path().join("Non-anemic/Stray.png")).unwrap();
    let out = folder.path().join("out");
    let text = audit(folder.path(), &out);
    assert!(text.contains("both labels: Image_000 (Anemic, 9 g/dL), Image_040 (Non-anemic, 12.5 g/dL)"), "{text}");
    assert!(text.contains("labels without a picture (1): Image_004"), "{text}");
    assert!(text.contains("pictures without a label") && text.contains("Stray.png"), "{text}");
    assert!(text.contains("Clinic, Region") && text.contains("12 to 23 months"), "{text}");

    let table = out.join("folds.csv");
    let mut fold_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (group, fold) in column(&table, "photo_group").into_iter().zip(column(&table, "fold_grouped")) {
        fold_of.entry(group).or_default().insert(fold);
    }
    assert!(fold_of.values().all(|folds| folds.len() == 1), "{fold_of:?}");
}

#[test]
fn what_copies_on_both_sides_were_worth_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // Twenty photographs of their own, and ten that come twice, each time in another fold.
    let one =
        |k: u64| One { picture: crescent(if k < 30 { k } else { k - 10 }), anemic: k.is_multiple_of(2), hb: 11.0 };
    write_data_set(folder.path(), &(0..40).map(one).collect::<Vec<_>>());
    let rows: String = (0..40)
        .map(|k: i32| {
            let remark = if k % 2 == 0 { "Anemic" } else { "Non-anemic" };
            // Copies are recognised; the others are guessed, and wrongly as often as not.
            let sure = if k >= 20 { if k % 2 == 0 { 3.0 } else { -3.0 } } else { f64::from(k / 2 % 2) - 0.5 };
            format!("{remark}/Image_{k:03}.png,{},{k},{},{sure}\n", k % 2 == 0, u8::from(k >= 30))
        })
        .collect();
    let predictions = folder.path().join("predictions.csv");
    fs::write(&predictions, format!("path,anemic,photo_group,fold,logit\n{rows}")).unwrap();
    let mut command = anemia_train(&["audit"]);
    command.arg("--data").arg(folder.path()).arg("--predictions").arg(&predictions);
    let (text, errors, code) = texts(&command.output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    assert!(text.contains("20 of 40 pictures have a copy in another fold"), "{text}");
    assert!(text.contains("AUC of those without such a copy  0.5000"), "{text}");
    assert!(text.contains("AUC of those with one             1.0000"), "{text}");
}

#[test]
fn bad_folders_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |what: &str| {
        let output = anemia_train(&["audit"]).arg("--data").arg(folder.path()).output().unwrap();
        let (_, errors, code) = texts(&output);
        assert_eq!((code, errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.contains(what), "{errors}");
    };
    refused("Anemia_Data_Collection_Sheet.csv");
    write_data_set(folder.path(), &[]);
    refused("no pictures are listed");
    write_data_set(folder.path(), &[One { picture: crescent(1), anemic: true, hb: 9.0 }]);
    fs::write(folder.path().join("Anemic/Image_000.png"), b"not a picture").unwrap();
    refused("Image_000.png: not a PNG or JPEG picture");
    fs::remove_file(folder.path().join("Anemic/Image_000.png")).unwrap();
    refused("none of the labelled pictures is there");
    let sheet = folder.path().join("Anemia_Data_Collection_Sheet.csv");
    let text = fs::read_to_string(&sheet).unwrap().replace(",Anemic,", ",Perhaps,");
    fs::write(&sheet, text).unwrap();
    refused("\"Perhaps\"; expected Anemic or Non-anemic");
}

/// Whether two photographs have the same pixels where both show tissue, for one way of laying one on the other.
///
/// Independent of the search: every shift is tried, and pixels are compared as they are.
fn have_equal_pixels(a: &RgbaImage, b: &RgbaImage) -> bool {
    let tissue: Vec<(i64, i64)> = (0..b.height())
        .flat_map(|y| (0..b.width()).map(move |x| (x, y)))
        .filter(|&(x, y)| b.get_pixel(x, y).0[3] > 127 && (x * 7 + y * 3) % 11 == 0)
        .map(|(x, y)| (i64::from(x), i64::from(y)))
        .collect();
    let at = |x: i64, y: i64| {
        let inside = x >= 0 && y >= 0 && x < i64::from(a.width()) && y < i64::from(a.height());
        inside.then(|| a.get_pixel(x as u32, y as u32).0).filter(|pixel| pixel[3] > 127)
    };
    let fits = |dx: i64, dy: i64| {
        let (mut common, mut equal) = (0, 0);
        for (seen, &(x, y)) in tissue.iter().enumerate() {
            if let Some(pixel) = at(x + dx, y + dy) {
                common += 1;
                let other = b.get_pixel(x as u32, y as u32).0;
                equal += usize::from((0..3).all(|c| pixel[c].abs_diff(other[c]) <= 3));
            }
            if seen == 60 && equal * 2 < common {
                return false;
            }
        }
        common * 4 > tissue.len() && equal * 100 > common * 97
    };
    (-160..=160).any(|dx| (-70..=70).any(|dy| fits(dx, dy)))
}

/// Recall against groups.csv, and precision: a pair is right if groups.csv has it, or if the pixels prove it.
#[test]
fn copies_in_cp_anemic_are_found() {
    let Some(folder) = data("cp-anemic") else { return };
    let work = tempfile::tempdir().unwrap();
    let start = std::time::Instant::now();
    audit(&folder, work.path());
    println!("audit of 710 pictures: {:.1} s", start.elapsed().as_secs_f64());
    let (known, found) = (pairs(&folder.join("groups.csv")), pairs(&work.path().join("groups.csv")));
    let both = known.intersection(&found).count() as f64;
    let (recall, precision) = (both / known.len() as f64, both / found.len() as f64);

    // Groups of groups.csv that were joined: is there a pair of files with equal pixels between them?
    let table = folder.join("groups.csv");
    let group_of: BTreeMap<String, String> =
        column(&table, "path").into_iter().zip(column(&table, "photo_group")).collect();
    let mut between: BTreeMap<(&str, &str), Vec<&(String, String)>> = BTreeMap::new();
    for pair in found.difference(&known) {
        let (a, b) = (group_of[&pair.0].as_str(), group_of[&pair.1].as_str());
        between.entry((a.min(b), a.max(b))).or_default().push(pair);
    }
    let open = |path: &str| image::open(folder.join(path)).unwrap().into_rgba8();
    let mut proven = 0;
    for pairs in between.values() {
        if pairs.iter().take(12).any(|(a, b)| have_equal_pixels(&open(a), &open(b))) {
            proven += pairs.len();
        } else {
            println!("joined without equal pixels: {} and {}, {} pairs", pairs[0].0, pairs[0].1, pairs.len());
        }
    }
    let corrected = (both + proven as f64) / found.len() as f64;
    println!(
        "{} pairs in groups.csv, {} found: recall {recall:.4}, precision {precision:.4}; {proven} pairs that groups.csv \
         misses have equal pixels, with them precision {corrected:.4}",
        known.len(),
        found.len()
    );
    assert!(recall >= 0.98 && corrected >= 0.98, "recall {recall}, precision {corrected}");
}
