//! Reading the file: every mistake is told at once, with its line, its key and what was expected.

use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::Config;
use super::schema::{SCHEMA, expected, keys, node_at};

/// A configuration is a page of text; anything larger is not one.
const MAX_BYTES: u64 = 1 << 20;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    // The schema is made from our own types at build time: it is valid, or every test fails.
    jsonschema::validator_for(&SCHEMA).expect("the schema of the configuration is valid")
});

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, from 1; of the key where the mistake has one.
    pub position: Option<(usize, usize)>,
    /// Key path, such as `mqtt.port`; empty for the file as a whole.
    pub key: String,
    /// What is wrong and what was expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(out, "line {line} column {column}: ")?;
        }
        if !self.key.is_empty() {
            write!(out, "{}: ", self.key)?;
        }
        out.write_str(&self.text)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file has mistakes, at least one.
    Mistakes {
        /// The file.
        path: PathBuf,
        /// All of them, in the order of the file.
        problems: Vec<Problem>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => {
                let hint = match source.kind() {
                    ErrorKind::NotFound => "; --config names another file",
                    _ => "",
                };
                write!(out, "{}: cannot be read: {source}{hint}", path.display())
            }
            Self::Mistakes { path, problems } => {
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(out, "{separator}{}: {problem}", path.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a configuration file. Relative paths in it count from the folder of the file.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let found = path.metadata().map_err(unreadable)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(unreadable(std::io::Error::other("it is no regular file, or too long for a configuration")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    let mut config = parse(&text).map_err(|problems| ConfigError::Mistakes { path: path.to_owned(), problems })?;
    config.resolve(absolute.parent().unwrap_or(Path::new("/")));
    Ok(config)
}

/// The state folder that a file names, whatever else is wrong with it: a daemon that refused the file goes on, and is asked there.
pub fn state_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default = "super::default_state_dir")]
        state_dir: PathBuf,
    }
    let mistakes = match load(path) {
        Ok(config) => return Ok(config.state_dir),
        Err(unreadable @ ConfigError::Read { .. }) => return Err(unreadable),
        Err(mistakes) => mistakes,
    };
    let named = std::fs::read_to_string(path).ok().and_then(|text| serde_yaml::from_str::<Named>(&text).ok());
    let folder = std::path::absolute(path).ok().and_then(|path| Some(path.parent()?.to_owned()));
    match (named, folder) {
        (Some(named), Some(folder)) => Ok(folder.join(named.state_dir)),
        _ => Err(mistakes),
    }
}

/// Parses the text of a configuration, or tells all its mistakes.
pub fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let whole = |error: serde_yaml::Error| {
        let said = error.to_string();
        // Of a key that stands twice, serde_yaml says where its section begins.
        let twice =
            said.contains("duplicate entry").then(|| Once.deserialize(serde_yaml::Deserializer::from_str(text)));
        let location = twice.and_then(|walk| walk.err()?.location()).or(error.location());
        let position = location.map(|location| (location.line(), location.column()));
        vec![Problem { position, key: String::new(), text: without_position(&said) }]
    };
    let yaml: serde_yaml::Value = serde_yaml::from_str(text).map_err(whole)?;
    let json = serde_json::to_value(&yaml).map_err(|error| {
        vec![Problem { position: Some((1, 1)), key: String::new(), text: format!("every key must be text ({error})") }]
    })?;
    let mut problems: Vec<Problem> = VALIDATOR.iter_errors(&json).flat_map(|error| explain(text, &error)).collect();
    if problems.is_empty() {
        let config: Config = serde_yaml::from_str(text).map_err(whole)?;
        for (key, mistake) in config.contradictions() {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            problems.push(Problem { position: position_of(text, &path), key: key.to_owned(), text: mistake });
        }
        if problems.is_empty() {
            return Ok(config);
        }
    }
    problems.sort_by_key(|problem| problem.position);
    Err(problems)
}

/// Turns an error of the validator into our words.
fn explain(text: &str, error: &ValidationError<'_>) -> Vec<Problem> {
    let path: Vec<String> = error
        .instance_path()
        .as_str()
        .split('/')
        .skip(1)
        .map(|key| key.replace("~1", "/").replace("~0", "~"))
        .collect();
    let problem = |path: &[String], mistake: String| Problem {
        position: position_of(text, path),
        key: path.join("."),
        text: mistake,
    };
    let node = node_at(path.iter().map(String::as_str));
    let known = node.map(keys).unwrap_or_default();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let unknown = |key: &String| {
                let mut path = path.clone();
                path.push(key.clone());
                problem(&path, format!("unknown key; {}", suggestion(key, &known)))
            };
            unexpected.iter().map(unknown).collect()
        }
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let missing = node_at(path.iter().map(String::as_str).chain([key]));
            let what = missing.map(expected).unwrap_or_default();
            vec![problem(&path, format!("the key {key} is missing; expected {what}"))]
        }
        _ => {
            let found = match error.instance().as_ref() {
                Value::Object(map) => format!("found {} keys", map.len()),
                Value::Array(list) => format!("found a list of {}", list.len()),
                Value::Null => "found nothing".to_owned(),
                other => format!("found {other}"),
            };
            let what = node.map(expected).unwrap_or_default();
            vec![problem(&path, format!("{found}; expected {what}"))]
        }
    }
}

/// What may have been meant by an unknown word: a known one that is like it, or else all of them.
pub(crate) fn suggestion(word: &str, known: &[impl AsRef<str>]) -> String {
    let known: Vec<_> = known.iter().map(AsRef::as_ref).collect();
    let closeness = |known: &str| strsim::jaro_winkler(known, word);
    match known.iter().copied().max_by(|a, b| closeness(a).total_cmp(&closeness(b))) {
        Some(similar) if closeness(similar) > 0.7 => format!("did you mean {similar}?"),
        _ => format!("expected one of {}", known.join(", ")),
    }
}

/// serde_yaml puts the position at the end of its text; ours stands in front.
fn without_position(text: &str) -> String {
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

/// Line and column of the key at `path`, or `None` for the file as a whole.
///
/// serde_yaml knows positions only of errors. So the text is read once more with a visitor that fails on purpose when
/// it reaches the key.
fn position_of(text: &str, path: &[String]) -> Option<(usize, usize)> {
    if path.is_empty() {
        return None;
    }
    let error = Walk { path }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|location| (location.line(), location.column()))
}

struct Walk<'a> {
    path: &'a [String],
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a mapping or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else { return Err(A::Error::custom("reached")) };
        while let Some(found) = map.next_key_seed(Key { wanted, stop: rest.is_empty() })? {
            if found {
                map.next_value_seed(Walk { path: rest })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.path.split_first() else { return Err(A::Error::custom("reached")) };
        for index in 0.. {
            let more = if *wanted == index.to_string() {
                list.next_element_seed(Walk { path: rest })?.is_some()
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Fails at the second of two equal keys.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(New { seen: &mut seen })?.is_some() {
            map.next_value_seed(Once)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Once)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A key, which must not be among those that were seen.
struct New<'a> {
    seen: &'a mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for New<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for New<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<(), E> {
        if self.seen.insert(key.to_owned()) { Ok(()) } else { Err(E::custom("twice")) }
    }
}

/// Compares a key, and fails on purpose at the one that is looked for.
struct Key<'a> {
    wanted: &'a str,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        let found = key == self.wanted;
        if found && self.stop { Err(E::custom("reached")) } else { Ok(found) }
    }
}
