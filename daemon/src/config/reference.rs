//! docs/reference/config.md, written from the types.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{SCHEMA, expected, resolved};

/// The page as Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         `anemiad` reads one YAML file (`--config`, by default `/etc/anemiad/anemiad.yaml`).\n\
         This page is written from the program's own types by `make docs`; `daemon/anemiad.yaml` is a complete example\n\
         with comments. Unknown keys are refused. Relative paths count from the folder of the file.\n\
         `anemiad check --config FILE` names every mistake with its line and exits with 78.\n",
    );
    section(&mut page, "", &SCHEMA);
    page
}

fn section(page: &mut String, path: &str, node: &Value) {
    let node = resolved(node);
    let required: Vec<&str> =
        node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(properties) = node.get("properties").and_then(Value::as_object) else { return };
    let is_section = |property: &Value| resolved(property).get("properties").is_some();

    if properties.values().any(|property| !is_section(property)) {
        page.push_str("\n| key | value | default | meaning |\n|---|---|---|---|\n");
    }
    for (key, property) in properties.iter().filter(|(_, property)| !is_section(property)) {
        let default = match property.get("default") {
            // A limit is held as f32, whose shortest decimal form is what a person wrote.
            Some(Value::Number(number)) if number.is_f64() => {
                format!("`{}`", number.as_f64().unwrap_or_default() as f32)
            }
            Some(default) if !default.is_null() => format!("`{}`", default.to_string().trim_matches('"')),
            _ if required.contains(&key.as_str()) => "required".into(),
            _ => "none".into(),
        };
        let values = expected(property).replace('|', "\\|");
        // Writing into a String cannot fail.
        let _ = writeln!(page, "| `{path}{key}` | {values} | {default} | {} |", meaning(property));
    }
    for (key, property) in properties.iter().filter(|(_, property)| is_section(property)) {
        let _ = writeln!(page, "\n## `{path}{key}`\n\n{}", meaning(property));
        section(page, &format!("{path}{key}."), property);
    }
}

fn meaning(property: &Value) -> String {
    let own = property.get("description").or_else(|| resolved(property).get("description"));
    own.and_then(Value::as_str).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
