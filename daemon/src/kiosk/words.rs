//! All texts of the page in all languages: a table in the program, which a clinic can extend.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::config::{read_small, suggestion};

/// The table that comes with the program.
const SHIPPED: &str = include_str!("page/words.yaml");
/// What a text may take.
const LONGEST: usize = 500;

/// The texts by language, and by what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(BTreeMap<String, BTreeMap<String, String>>);

impl Words {
    /// The shipped table, with what `extension` adds or says otherwise.
    pub fn load(extension: Option<&Path>) -> Result<Self, String> {
        let shipped = serde_yaml::from_str(SHIPPED).map_err(|error| error.to_string())?;
        let mut words = Self(shipped);
        let Some(path) = extension else { return Ok(words) };
        let wrong = |cause: &dyn std::fmt::Display| format!("kiosk.words {}: {cause}", path.display());
        let text = read_small(path).map_err(|error| format!("kiosk.words {error}"))?;
        let more: BTreeMap<String, BTreeMap<String, String>> =
            serde_yaml::from_slice(&text).map_err(|error| wrong(&error))?;
        let english = words.0.get("en").cloned().unwrap_or_default();
        for (language, texts) in more {
            if !language.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') || language.len() > 20 {
                return Err(wrong(&format!("{language:?} is no language tag, such as sw or pt-BR")));
            }
            for (key, text) in texts {
                if !english.contains_key(&key) {
                    let all: Vec<_> = english.keys().collect();
                    return Err(wrong(&format!("{language}: there is no text {key:?}; {}", suggestion(&key, &all))));
                }
                if text.len() > LONGEST {
                    return Err(wrong(&format!("{language}: {key}: longer than {LONGEST} bytes")));
                }
                words.0.entry(language.clone()).or_default().insert(key, text);
            }
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use anemia_bundle::Verdict;
    use anemia_vision::Rejection;

    use super::*;
    use crate::board::{BrokerStatus, CameraStatus, EngineStatus};
    use crate::exam::{NotNow, Phase};

    /// As the page reads it.
    fn word(status: &impl Serialize) -> String {
        serde_json::to_value(status).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn every_language_has_every_text_and_every_word_of_the_state_has_one() {
        let words = Words::load(None).unwrap();
        let english: Vec<_> = words.0["en"].keys().collect();
        for (language, texts) in &words.0 {
            assert_eq!(texts.keys().collect::<Vec<_>>(), english, "{language}");
            assert!(texts.values().all(|text| !text.trim().is_empty() && text.len() <= LONGEST), "{language}");
        }
        let mut wanted: Vec<String> = Verdict::ALL.iter().map(|verdict| format!("verdict_{verdict}")).collect();
        wanted.extend(Verdict::ALL.iter().map(|verdict| format!("next_{verdict}")));
        wanted.extend(Rejection::ALL.iter().map(|reason| format!("hint_{}", reason.words().0)));
        wanted.extend(CameraStatus::ALL.iter().map(|status| format!("camera_{}", word(status))));
        wanted.extend(EngineStatus::ALL.iter().map(|status| format!("engine_{}", word(status))));
        wanted.extend(BrokerStatus::ALL.iter().map(|status| format!("broker_{}", word(status))));
        wanted.extend(Phase::ALL.iter().map(|phase| format!("phase_{}", word(phase))));
        wanted.extend(NotNow::ALL.iter().map(|reason| format!("refused_{}", reason.code())));
        for key in wanted {
            assert!(words.0["en"].contains_key(&key), "{key}");
        }
    }

    #[test]
    fn a_clinic_adds_a_language_and_changes_a_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.yaml");
        std::fs::write(&path, "sw: {start: Anza}\nen: {start: Begin}\n").unwrap();
        let words = Words::load(Some(&path)).unwrap();
        assert_eq!((words.0["sw"]["start"].as_str(), words.0["en"]["start"].as_str()), ("Anza", "Begin"));
        assert!(words.0["en"].contains_key("cancel"));
        std::fs::write(&path, "sw: {strat: Anza}").unwrap();
        assert!(Words::load(Some(&path)).unwrap_err().contains("there is no text \"strat\"; did you mean start?"));
    }
}
