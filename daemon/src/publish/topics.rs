//! The MQTT topics of a kiosk. docs/reference/topics.md describes them.

/// `anemia/<device_id>/…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Retained: `online`, `stopped`, or `offline` by last will.
    pub availability: String,
    /// Retained: the state as JSON.
    pub state: String,
    /// One message for each exam, not retained.
    pub result: String,
}

impl Topics {
    /// The topics of a device.
    pub fn new(device_id: &str) -> Self {
        let topic = |name: &str| format!("anemia/{device_id}/{name}");
        Self { availability: topic("availability"), state: topic("state"), result: topic("result") }
    }
}
