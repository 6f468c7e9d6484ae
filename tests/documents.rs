//! The reference pages are written from the program: this fails when they differ. `make docs` writes them again.
// A test whose stage cannot be set may panic.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use anemiad::publish::telemetry::Telemetry;
use anemiad::{board, commands, config, report};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn expect_page(path: &str, content: &str) {
    let file = project().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, content).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == content, "{path} is not what the program says; run `make docs`");
}

#[test]
fn the_configuration_page_is_up_to_date() {
    expect_page("docs/reference/config.md", &config::reference());
}

#[test]
fn the_schemas_are_up_to_date() {
    expect_page("docs/reference/result.schema.json", &report::schema_of::<report::ExamResult>());
    expect_page("docs/reference/state.schema.json", &report::schema_of::<board::State>());
    expect_page("docs/reference/telemetry.schema.json", &report::schema_of::<Telemetry>());
    expect_page("docs/reference/response.schema.json", &report::schema_of::<commands::Response>());
}

#[test]
fn the_shipped_configuration_and_every_example_in_the_guides_are_valid() {
    let shipped = std::fs::read_to_string(project().join("daemon/anemiad.yaml")).unwrap();
    let parsed = config::parse(&shipped).unwrap_or_else(|problems| panic!("daemon/anemiad.yaml: {problems:?}"));
    // What it shows as the default is the default.
    assert_eq!(parsed.quality, config::Quality::default());
    assert_eq!(parsed.exam, config::Exam::default());
    assert_eq!(parsed.health, config::Health::default());

    let mut examples = 0;
    for folder in ["docs/guide", "docs/reference"] {
        for entry in std::fs::read_dir(project().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for block in text.split("```yaml\n").skip(1) {
                let block = block.split("```").next().unwrap_or_default();
                if block.contains("device_id:") {
                    config::parse(block).unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
                    examples += 1;
                }
            }
        }
    }
    assert!(examples > 0, "the guides show no configuration");
}

#[test]
fn every_link_between_the_documents_leads_somewhere() {
    let mut pages =
        vec![project().join("README.md"), project().join("CONTRIBUTING.md"), project().join("CHANGELOG.md")];
    let folders = ["docs", "docs/guide", "docs/reference", "docs/design"];
    for folder in folders {
        let entries = std::fs::read_dir(project().join(folder)).unwrap();
        pages.extend(
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
        );
    }
    let mut broken = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
