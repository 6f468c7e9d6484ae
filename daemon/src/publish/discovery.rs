//! What makes a kiosk appear in Home Assistant by itself: one retained message for the whole device.
//!
//! <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>, with its abbreviations; tried with 2025.4 and 2026.11.
//! docs/guide/dashboards.md shows what comes of it.

use anemia_bundle::Verdict;
use anemia_vision::Rejection;
use serde_json::{Map, Value, json};

use super::Topics;
use crate::config;
use crate::machine;

/// Seconds for which the result of an exam is shown: later it is not that of whoever stands there.
const RESULT_S: u32 = 600;

/// The message, with the thermal zones of this machine.
pub fn message(device_id: &str, settings: &config::Mqtt, topics: &Topics) -> Vec<u8> {
    let zones = machine::zones();
    // It holds text and numbers only, which can always be written.
    serde_json::to_vec(&device(device_id, settings, topics, &zones)).unwrap_or_default()
}

fn device(device_id: &str, settings: &config::Mqtt, topics: &Topics, zones: &[String]) -> Value {
    let node = format!("anemiad_{device_id}");
    let version = env!("CARGO_PKG_VERSION");
    let online = json!({"t": topics.availability, "val_tpl": "{{ 'online' if value == 'online' else 'offline' }}"});
    let mut components = Components { node: &node, all: Map::new() };
    components.exam(topics, &online);
    components.state(topics);
    if settings.telemetry_s > 0 {
        components.telemetry(topics, settings.telemetry_s, zones);
    }
    if settings.commands {
        components.commands(topics);
    }
    json!({
        "dev": {"ids": [node], "name": device_id, "sw": version},
        "o": {"name": "anemiad", "sw": version},
        "avty": [online],
        "cmps": components.all,
    })
}

struct Components<'a> {
    node: &'a str,
    all: Map<String, Value>,
}

impl Components<'_> {
    fn add(&mut self, key: &str, platform: &str, name: &str, rest: &[&Value]) {
        let entity = format!("{}_{key}", self.node).to_lowercase().replace('-', "_");
        let mut component = json!({
            "p": platform,
            "name": name,
            "uniq_id": format!("{}_{key}", self.node),
            "def_ent_id": format!("{platform}.{entity}"),
            "qos": 1,
        });
        for fields in rest {
            for (field, value) in fields.as_object().into_iter().flatten() {
                component[field] = value.clone();
            }
        }
        self.all.insert(key.to_owned(), component);
    }

    /// What the last exam gave. It goes away when the next one begins, so that nobody reads it as somebody else's, and comes when
    /// the broker has it: what Home Assistant still holds before that is of somebody else, too.
    fn exam(&mut self, topics: &Topics, online: &Value) {
        let fresh = |value: &str, and: &str| {
            let age = "(now() - as_datetime(value_json.finished_at)).total_seconds()";
            json!({"val_tpl": format!("{{{{ {value} if {and}{age} < {RESULT_S} else None }}}}")})
        };
        let settled = json!({
            "t": topics.state,
            "val_tpl": "{{ 'online' if value_json.result and value_json.outbox.waiting == 0 else 'offline' }}",
        });
        let result = json!({
            "stat_t": topics.result, "json_attr_t": topics.result, "avty": [online, settled], "avty_mode": "all",
            "exp_aft": RESULT_S, "frc_upd": true,
        });
        let verdicts = json!({"dev_cla": "enum", "ops": Verdict::ALL.map(Verdict::as_str), "ic": "mdi:eye-check"});
        let verdict = fresh("value_json.verdict", "");
        self.add("verdict", "sensor", "Verdict (screening aid, not a diagnosis)", &[&result, &verdicts, &verdict]);
        let percent = json!({"unit_of_meas": "%", "sug_dsp_prc": 0, "ic": "mdi:percent"});
        let number = fresh("(value_json.probability * 100) | round(1)", "value_json.probability is number and ");
        self.add("probability", "sensor", "Probability of anemia (no diagnosis)", &[&result, &percent, &number]);
        let advice = fresh("value_json.advice", "");
        self.add("advice", "sensor", "Advice", &[&result, &json!({"ic": "mdi:comment-text"}), &advice]);
        let last = json!({
            "stat_t": topics.result, "dev_cla": "timestamp", "val_tpl": "{{ value_json.finished_at }}",
        });
        self.add("last_exam", "sensor", "Last exam", &[&last]);
    }

    /// What the state says.
    fn state(&mut self, topics: &Topics) {
        let state = json!({"stat_t": topics.state});
        let diagnostic = json!({"ent_cat": "diagnostic"});
        let phases = json!({
            "dev_cla": "enum", "ops": ["idle", "aligning", "collecting", "result", "cancelled"],
            "val_tpl": "{{ value_json.exam.phase }}", "ic": "mdi:progress-clock",
        });
        self.add("phase", "sensor", "Exam phase", &[&state, &phases]);
        let hints: Map<String, Value> =
            Rejection::ALL.into_iter().map(|reason| (reason.words().0.to_owned(), reason.words().1.into())).collect();
        let hints = Value::from(hints);
        let hint = format!("{{{{ {hints}.get(value_json.exam.hint, value_json.exam.hint or 'none') }}}}");
        self.add("hint", "sensor", "Hint", &[&state, &json!({"val_tpl": hint, "ic": "mdi:account-voice"})]);
        let connection = json!({
            "stat_t": topics.availability, "dev_cla": "connectivity", "pl_on": "online", "pl_off": "offline",
            "val_tpl": "{{ 'online' if value == 'online' else 'offline' }}", "avty": [],
        });
        self.add("connection", "binary_sensor", "Connection", &[&connection, &diagnostic]);
        let parts: [(&str, &str, &[&str], &str); 4] = [
            ("camera", "Camera", &["opening", "streaming", "late", "lost", "gave_up", "ended"], "mdi:camera"),
            ("engine", "Engine", &["ready", "failing", "fallback", "building"], "mdi:brain"),
            ("config", "Configuration", &["applied", "preparing", "refused"], "mdi:file-cog"),
            (
                "update",
                "Model update",
                &["none", "installing", "proving", "installed", "rolled_back"],
                "mdi:package-up",
            ),
        ];
        for (key, name, options, icon) in parts {
            // With brackets: `update` with a dot is a method of the dictionary.
            let part = json!({
                "dev_cla": "enum", "ops": options, "ic": icon,
                "val_tpl": format!("{{{{ value_json['{key}'].status }}}}"),
                "json_attr_t": topics.state, "json_attr_tpl": format!("{{{{ value_json['{key}'] | to_json }}}}"),
            });
            self.add(key, "sensor", name, &[&state, &part, &diagnostic]);
        }
        let waiting = json!({
            "stat_cla": "measurement", "val_tpl": "{{ value_json.outbox.waiting }}", "ic": "mdi:tray-full",
        });
        self.add("waiting", "sensor", "Results waiting", &[&state, &waiting, &diagnostic]);
        let lost = json!({
            "stat_cla": "total_increasing", "val_tpl": "{{ value_json.outbox.lost }}", "ic": "mdi:tray-remove",
        });
        self.add("lost", "sensor", "Results lost", &[&state, &lost, &diagnostic]);
        let model = json!({
            "val_tpl": "{{ value_json.model.name }} {{ value_json.model.version }}", "json_attr_t": topics.state,
            "json_attr_tpl": "{{ value_json.model | to_json }}", "ic": "mdi:vector-polyline",
        });
        self.add("model", "sensor", "Model", &[&state, &model, &diagnostic]);
    }

    /// What telemetry says.
    fn telemetry(&mut self, topics: &Topics, every_s: u32, zones: &[String]) {
        let telemetry = json!({
            "stat_t": topics.telemetry, "exp_aft": 3 * every_s, "ent_cat": "diagnostic", "stat_cla": "measurement",
        });
        let fps = json!({
            "unit_of_meas": "fps", "sug_dsp_prc": 1, "val_tpl": "{{ value_json.fps }}", "ic": "mdi:speedometer",
        });
        self.add("fps", "sensor", "Frame rate", &[&telemetry, &fps]);
        let memory = json!({
            "dev_cla": "data_size", "unit_of_meas": "MiB", "sug_dsp_prc": 0, "val_tpl": "{{ value_json.memory_mib }}",
        });
        self.add("memory", "sensor", "Memory", &[&telemetry, &memory]);
        let uptime = json!({
            "dev_cla": "duration", "unit_of_meas": "h", "sug_dsp_prc": 1,
            "val_tpl": "{{ (value_json.uptime_s / 3600) | round(2) }}",
        });
        self.add("uptime", "sensor", "Uptime", &[&telemetry, &uptime]);
        for zone in zones {
            let in_an_id = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
            let slug: String = zone.chars().map(|letter| if in_an_id(letter) { letter } else { '_' }).collect();
            let temperature = json!({
                "dev_cla": "temperature", "unit_of_meas": "°C", "sug_dsp_prc": 1,
                "val_tpl": format!("{{{{ value_json.temperatures_c.get({}) }}}}", Value::from(zone.as_str())),
            });
            let (key, name) = (format!("temperature_{slug}"), format!("Temperature {zone}"));
            self.add(&key, "sensor", &name, &[&telemetry, &temperature]);
        }
    }

    /// Buttons. A command needs an id of its own, and an end.
    fn commands(&mut self, topics: &Topics) {
        // Home Assistant refuses ranges above 100 000 numbers.
        let template = r#"{"id":"ha-{{ (now().timestamp() * 1000) | int }}-{{ range(10000, 99999) | random }}","expires_at":"{{ (utcnow() + timedelta(seconds=30)).strftime('%Y-%m-%dT%H:%M:%SZ') }}"}"#;
        let buttons = [
            ("start", "Start exam", json!({"ic": "mdi:play"})),
            ("cancel", "Cancel exam", json!({"ic": "mdi:stop"})),
            ("identify", "Identify", json!({"dev_cla": "identify", "ent_cat": "diagnostic"})),
            ("reload", "Reload configuration", json!({"ic": "mdi:reload", "ent_cat": "config"})),
        ];
        for (verb, name, more) in buttons {
            let command = json!({"cmd_t": format!("{}{verb}", topics.command), "cmd_tpl": template});
            self.add(verb, "button", name, &[&command, &more]);
        }
        let answer = json!({
            "stat_t": topics.response, "json_attr_t": topics.response, "ic": "mdi:reply", "ent_cat": "diagnostic",
            "val_tpl": "{{ value_json.command }}: {{ value_json.outcome }}{{ ' (' ~ value_json.reason ~ ')' if value_json.reason else '' }}",
        });
        self.add("answer", "sensor", "Last answer", &[&answer]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_fits_and_leaves_out_what_is_switched_off() {
        let settings: config::Mqtt = serde_yaml::from_str("host: broker").unwrap();
        let topics = Topics::new("kiosk-1");
        let zones: Vec<String> = (0..12).map(|zone| format!("zone {zone}-thermal")).collect();
        let all = device("kiosk-1", &settings, &topics, &zones);
        assert!(serde_json::to_vec(&all).unwrap().len() < 32 << 10, "it must fit into a message");
        assert_eq!(all["cmps"]["verdict"]["def_ent_id"], "sensor.anemiad_kiosk_1_verdict");
        assert!(
            all["cmps"]["temperature_zone_3-thermal"]["val_tpl"].as_str().unwrap().contains("get(\"zone 3-thermal\")")
        );
        let quiet = config::Mqtt { commands: false, telemetry_s: 0, ..settings };
        let quiet = device("kiosk-1", &quiet, &topics, &zones);
        let keys: Vec<_> = quiet["cmps"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(!keys.contains(&"start") && !keys.contains(&"fps") && keys.contains(&"verdict"), "{keys:?}");
    }
}
