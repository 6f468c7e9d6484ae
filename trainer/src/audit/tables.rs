//! What the labels say, and where they contradict each other.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::dataset::SheetRow;

/// One picture with its row of the sheet.
pub(super) struct Found<'a> {
    pub(super) row: &'a SheetRow,
    pub(super) anemic: bool,
    pub(super) group: usize,
}

/// Ages in months: below which, and their name, in an order that is also that of the names.
const AGES: [(f64, &str); 5] =
    [(12.0, " 0 to 11"), (24.0, "12 to 23"), (36.0, "24 to 35"), (48.0, "36 to 47"), (f64::INFINITY, "48 and more")];

/// Photographs that occur more than once, and what their labels say.
pub(super) fn conflicts(found: &[Found<'_>]) -> String {
    let mut groups: BTreeMap<usize, Vec<&Found<'_>>> = BTreeMap::new();
    for one in found {
        groups.entry(one.group).or_default().push(one);
    }
    let repeated: Vec<_> = groups.values().filter(|group| group.len() > 1).collect();
    let range = |group: &[&Found<'_>]| {
        let hb = group.iter().map(|one| one.row.hb);
        hb.clone().fold(f64::NEG_INFINITY, f64::max) - hb.fold(f64::INFINITY, f64::min)
    };
    let disagree = repeated.iter().filter(|group| range(group) > 0.05).count();
    let largest = repeated.iter().map(|group| range(group)).fold(0.0, f64::max);
    let two_labels: Vec<_> =
        repeated.iter().filter(|group| group.iter().any(|one| one.anemic != group[0].anemic)).collect();
    let most = repeated.iter().map(|group| group.len()).max().unwrap_or(1);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} pictures show {} photographs; {} photographs occur more than once, one of them {most} times",
        found.len(),
        groups.len(),
        repeated.len()
    );
    let _ = writeln!(
        text,
        "{disagree} of the {} have more than one hemoglobin value, up to {largest:.1} g/dL apart; {} have both labels",
        repeated.len(),
        two_labels.len()
    );
    for group in two_labels {
        let names = group.iter().map(|one| format!("{} ({}, {} g/dL)", one.row.image_id, one.row.remark, one.row.hb));
        let _ = writeln!(text, "  both labels: {}", names.collect::<Vec<_>>().join(", "));
    }
    text
}

/// Pictures, photographs, share of anemic ones and mean hemoglobin, by place and by age.
pub(super) fn by_place_and_age(found: &[Found<'_>]) -> String {
    let place = |one: &Found<'_>| format!("{}, {}", one.row.hospital, one.row.region);
    let age = |one: &Found<'_>| {
        let band = AGES.iter().position(|(below, _)| one.row.age_months < *below).unwrap_or(AGES.len() - 1);
        format!("{} months", AGES[band].1)
    };
    let mut text = table("place", found, place);
    text.push('\n');
    text.push_str(&table("age", found, age));
    text
}

fn table(title: &str, found: &[Found<'_>], key: impl Fn(&Found<'_>) -> String) -> String {
    let mut parts: BTreeMap<String, Vec<&Found<'_>>> = BTreeMap::new();
    for one in found {
        parts.entry(key(one)).or_default().push(one);
    }
    let wide = parts.keys().map(|name| name.chars().count()).max().unwrap_or(0).max(title.len());
    let mut text = format!("{title:<wide$}  pictures  photographs  anemic  mean Hb\n");
    for (name, part) in parts {
        let mut groups: Vec<_> = part.iter().map(|one| one.group).collect();
        groups.sort_unstable();
        groups.dedup();
        let share = part.iter().filter(|one| one.anemic).count() as f64 / part.len() as f64;
        let hb = part.iter().map(|one| one.row.hb).sum::<f64>() / part.len() as f64;
        let _ = writeln!(text, "{name:<wide$}  {:>8}  {:>11}  {share:>6.2}  {hb:>7.1}", part.len(), groups.len());
    }
    text
}
