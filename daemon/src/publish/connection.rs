//! What a connection to the broker is made with, and why one failed, in words.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill};
use rumqttc::v5::{ConnectionError, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};

use super::{Topics, tls};
use crate::config;

/// Messages that are on their way at the same time, if the broker wants as many: those from the outbox, and room for
/// availability, state and confirmations.
pub(super) const IN_FLIGHT: usize = 128;
pub(super) const CHANNEL: usize = IN_FLIGHT + 32;
/// How long a connection is waited for.
pub(super) const CONNECT_TIMEOUT_S: u64 = 5;
/// A command is much shorter. A broker keeps to it, and sends nothing longer.
const MOST_BYTES: u32 = 64 << 10;
/// How long a broker keeps commands for a kiosk that is away: none may be wanted for longer.
const SESSION_S: u32 = 7 * 24 * 3600;
/// Commands that come without waiting for the confirmation of the last.
pub(super) const COMMANDS: u16 = 16;

/// The options of a connection, with files as they are now.
pub(super) fn options(settings: &config::Mqtt, device_id: &str, topics: &Topics) -> Result<MqttOptions, String> {
    // The client puts host and port together as text, which for an IPv6 address needs brackets.
    let host = if settings.host.contains(':') { format!("[{}]", settings.host) } else { settings.host.clone() };
    let mut options = MqttOptions::new(settings.client_id(device_id), host, settings.port);
    options.set_keep_alive(Duration::from_secs(settings.keep_alive_s.into()));
    options.set_connection_timeout(CONNECT_TIMEOUT_S);
    options.set_outgoing_inflight_upper_limit(CHANNEL as u16);
    // Commands that are sent while the kiosk is away wait for it.
    options.set_clean_start(!settings.commands);
    options.set_connect_properties(ConnectProperties {
        session_expiry_interval: settings.commands.then_some(SESSION_S),
        receive_maximum: Some(COMMANDS),
        max_packet_size: Some(MOST_BYTES),
        ..ConnectProperties::new()
    });
    // A command counts as received when it is on the disk, not before.
    options.set_manual_acks(true);
    options.set_last_will(LastWill::new(&topics.availability, "offline", QoS::AtLeastOnce, true, None));
    if let Some(user) = &settings.username {
        options.set_credentials(user, settings.password()?);
    }
    if let Some(tls) = &settings.tls {
        let config = tls::client_config(tls)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
    }
    Ok(options)
}

/// Why a connection failed, in words.
pub(super) fn words(error: &ConnectionError, was_connected: bool, with_tls: bool) -> String {
    // This one does not name what it was caused by.
    let cause: &(dyn Error + 'static) = match error {
        ConnectionError::MqttState(StateError::Deserialization(cause)) => cause,
        _ => error,
    };
    if let Some(words) = tls::words(cause, jiff::Timestamp::now()) {
        return words;
    }
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "the broker refused the user name or password".into(),
            // What mosquitto answers to a wrong password, too.
            ConnectReturnCode::NotAuthorized => "the broker refused the user name or password (not authorized)".into(),
            ConnectReturnCode::ClientIdentifierNotValid => "the broker refused the client id".into(),
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => {
                "the broker does not speak MQTT 5".into()
            }
            ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServerBusy => {
                "the broker is not available".into()
            }
            other => format!("the broker refused the connection ({other:?})"),
        },
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => match reason_code {
            DisconnectReasonCode::SessionTakenOver => {
                "another client with the same client id took the connection over; is there a kiosk of the same name?"
                    .into()
            }
            DisconnectReasonCode::NotAuthorized => {
                "the broker ended the connection: this kiosk may not do what it did (not authorized)".into()
            }
            DisconnectReasonCode::ServerShuttingDown => "the broker stops".into(),
            other => format!("the broker ended the connection ({other:?})"),
        },
        ConnectionError::Timeout(_) => format!("no answer within {CONNECT_TIMEOUT_S} s"),
        ConnectionError::Io(error) => error.to_string(),
        _ if was_connected && is_closed(cause) => "the broker closed the connection".into(),
        _ if !was_connected && is_closed(cause) => {
            let is_it = if with_tls { "does it speak" } else { "does it expect" };
            format!("the broker closed the connection before it answered; {is_it} TLS at this port?")
        }
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Whether the other side just hung up.
fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(StateError::ConnectionAborted)) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
            return matches!(error.kind(), ConnectionAborted | ConnectionReset | UnexpectedEof);
        }
        next = error.source();
    }
    false
}
