//! What a connection to the broker is made with, and why one failed, in words.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    ConnectReturnCode, ConnectionError, LastWill, MqttOptions, QoS, StateError, TlsConfiguration, Transport,
};

use super::{Topics, tls};
use crate::config;

/// Messages that are on their way at the same time: those from the outbox, and room for availability, state and confirmations.
pub(super) const IN_FLIGHT: usize = 128;
pub(super) const CHANNEL: usize = IN_FLIGHT + 32;
/// How long a connection is waited for.
pub(super) const CONNECT_TIMEOUT_S: u64 = 5;
/// What is sent takes about 1 kB, and texts in it are bounded; a command is smaller still.
const MAX_PACKET: usize = 64 << 10;

/// The options of a connection, with files as they are now. `forget` has the broker forget what waits for this kiosk.
pub(super) fn options(
    settings: &config::Mqtt,
    device_id: &str,
    topics: &Topics,
    forget: bool,
) -> Result<MqttOptions, String> {
    // The client puts host and port together as text, which for an IPv6 address needs brackets.
    let host = if settings.host.contains(':') { format!("[{}]", settings.host) } else { settings.host.clone() };
    let mut options = MqttOptions::new(settings.client_id(device_id), host, settings.port);
    options.set_keep_alive(Duration::from_secs(settings.keep_alive_s.into()));
    options.set_inflight(CHANNEL as u16);
    options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
    // Commands that are sent while the kiosk is away wait for it.
    options.set_clean_session(forget || !settings.commands);
    // A command counts as received when it is on the disk, not before.
    options.set_manual_acks(true);
    options.set_last_will(LastWill::new(&topics.availability, "offline", QoS::AtLeastOnce, true));
    if let Some(user) = &settings.username {
        options.set_credentials(user, settings.password()?);
    }
    if let Some(tls) = &settings.tls {
        let config = tls::client_config(tls)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
    }
    Ok(options)
}

/// Whether the connection failed because a message from the broker is longer than any that is meant for a kiosk.
pub(super) fn is_too_long(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded(_)))
    )
}

/// Why a connection failed, in words.
pub(super) fn words(error: &ConnectionError, was_connected: bool) -> String {
    if let Some(words) = tls::words(error, jiff::Timestamp::now()) {
        return words;
    }
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword => "the broker refused the user name or password".into(),
            // What mosquitto answers to a wrong password, too.
            ConnectReturnCode::NotAuthorized => "the broker refused the user name or password (not authorized)".into(),
            ConnectReturnCode::BadClientId => "the broker refused the client id".into(),
            ConnectReturnCode::ServiceUnavailable => "the broker is not available".into(),
            other => format!("the broker refused the connection ({other:?})"),
        },
        ConnectionError::NetworkTimeout => format!("no answer within {CONNECT_TIMEOUT_S} s"),
        ConnectionError::Io(error) => error.to_string(),
        _ if is_too_long(error) => {
            "a message for this kiosk is too long; those that wait for it at the broker are discarded".into()
        }
        _ if !was_connected && is_closed(error) => {
            "the broker closed the connection before it answered; does it expect TLS at this port?".into()
        }
        other => other.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn is_closed(error: &ConnectionError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
            return matches!(error.kind(), ConnectionAborted | ConnectionReset | UnexpectedEof);
        }
        next = error.source();
    }
    false
}
