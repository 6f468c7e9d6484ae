//! The MQTT topics of a kiosk. docs/reference/topics.md describes them.

use super::Kind;

/// `anemia/<device_id>/…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Retained: `online`, `stopped`, or `offline` by last will.
    pub availability: String,
    /// Retained: the state as JSON.
    pub state: String,
    /// One message for each exam, not retained.
    pub result: String,
    /// Figures about the kiosk, not retained.
    pub telemetry: String,
    /// Answers to commands, not retained.
    pub response: String,
    /// What comes before the name of a command.
    pub command: String,
    /// Retained: what Home Assistant makes of this kiosk.
    pub discovery: String,
}

impl Topics {
    /// The topics of a device.
    pub fn new(device_id: &str) -> Self {
        let topic = |name: &str| format!("anemia/{device_id}/{name}");
        Self {
            availability: topic("availability"),
            state: topic("state"),
            result: topic("result"),
            telemetry: topic("telemetry"),
            response: topic("response"),
            command: topic("command/"),
            discovery: format!("homeassistant/device/anemiad_{device_id}/config"),
        }
    }

    /// Where a message of the outbox goes.
    pub fn of(&self, kind: Kind) -> &str {
        match kind {
            Kind::Response => &self.response,
            Kind::Result => &self.result,
            Kind::Telemetry => &self.telemetry,
        }
    }
}
