//! Looking things up in the JSON Schema of the configuration, which is generated from its types.

use std::sync::LazyLock;

use serde_json::Value;

use super::Config;

/// The schema as JSON.
pub(super) static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Config).to_value());

/// Follows a `$ref`, and the `anyOf` that stands for an optional value, to what they mean.
pub(super) fn resolved(mut node: &Value) -> &Value {
    loop {
        let inner = match node.get("anyOf").and_then(Value::as_array) {
            Some(choices) => choices.iter().find(|choice| choice.get("type").is_none_or(|kind| kind != "null")),
            None => node.get("$ref").and_then(Value::as_str).and_then(|path| SCHEMA.pointer(path.strip_prefix('#')?)),
        };
        match inner {
            Some(inner) => node = inner,
            None => return node,
        }
    }
}

/// The schema of the value at a key path; list positions are left out of it.
pub(super) fn node_at<'a>(keys: impl IntoIterator<Item = &'a str>) -> Option<&'static Value> {
    let mut node: &'static Value = &SCHEMA;
    for key in keys {
        node = if key.parse::<usize>().is_ok() {
            resolved(node).get("items")?
        } else {
            resolved(node).get("properties")?.get(key)?
        };
    }
    Some(node)
}

/// The keys that a mapping may have.
pub(super) fn keys(node: &Value) -> Vec<&str> {
    let properties = resolved(node).get("properties").and_then(Value::as_object);
    properties.map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default()
}

/// What a value may be, in words: type, range, pattern, choices.
pub(super) fn expected(node: &Value) -> String {
    let node = resolved(node);
    if let Some(choices) = node.get("oneOf").and_then(Value::as_array) {
        let names: Vec<_> = choices.iter().filter_map(|choice| choice.get("const")?.as_str()).collect();
        return format!("one of {}", names.join(", "));
    }
    if let Some(choices) = node.get("enum").and_then(Value::as_array) {
        return format!("one of {}", choices.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    }
    if let Some(pattern) = node.get("pattern").and_then(Value::as_str) {
        return match pattern {
            "^[A-Za-z0-9_-]{1,64}$" => "1 to 64 letters, digits, _ or -".into(),
            "^(auto|colour|alpha)$" => "auto, colour or alpha".into(),
            "^(colour|[0-9]+,[0-9]+,[0-9]+,[0-9]+)$" => "colour, or X,Y,WIDTH,HEIGHT in pixels".into(),
            pattern => format!("text that matches {pattern}"),
        };
    }
    let kind = match node.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")),
        other => other.and_then(Value::as_str),
    };
    let name = match kind {
        Some("integer") => "an integer",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("string") => "text",
        Some("array") if node.get("minItems").is_some() => "a list with at least one entry",
        Some("array") => "a list",
        Some("object") if node.get("maxProperties").is_some() => {
            return format!("exactly one of the keys {}", keys(node).join(", "));
        }
        Some("object") => return format!("a mapping with the keys {}", keys(node).join(", ")),
        _ => "a value",
    };
    let bound = |key: &str| node.get(key).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(low), Some(high)) => format!("{name} from {low} to {high}"),
        (Some(low), None) => format!("{name} from {low}"),
        _ => name.to_owned(),
    }
}
