//! Who may see the page: only pages of this kiosk itself, and with a token where the network can reach it.

use std::net::IpAddr;
use std::sync::Arc;

use anemia_bundle::Sha256;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_SECURITY_POLICY, COOKIE, HOST, HeaderName, LOCATION, ORIGIN, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::{self, read_small};

/// The page loads nothing from anywhere else, and nobody puts it into a page of theirs.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const COOKIE_NAME: &str = "anemiad";

/// What requests are checked against.
#[derive(Debug)]
pub struct Guard {
    /// Names and addresses by which this kiosk is called.
    names: Vec<String>,
    /// The hash of the token: comparing hashes tells nothing of how much of a wrong one was right.
    token: Option<Sha256>,
}

impl Guard {
    /// The names of the configuration and those of this machine; the token from its file.
    pub fn new(settings: &config::Kiosk) -> Result<Self, String> {
        let mut names: Vec<String> = settings.names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        match settings.listen.ip() {
            IpAddr::V4(address) => names.push(address.to_string()),
            IpAddr::V6(address) => names.push(format!("[{address}]")),
        }
        let token = settings.token_file.as_ref().map(|path| {
            let text = read_small(path)?;
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
            if line.len() < 16 {
                return Err(format!("{}: a token needs at least 16 characters", path.display()));
            }
            // A browser writes others in an address otherwise than they are, or ends the token there.
            if !line.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=!$*:@,".contains(byte)) {
                return Err(format!("{}: a token has letters, digits and -._~+/=!$*:@, only", path.display()));
            }
            Ok(Sha256::of(line))
        });
        Ok(Self { names, token: token.transpose()? })
    }

    fn refusal(&self, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
        if method != Method::GET && method != Method::HEAD {
            return Some((StatusCode::METHOD_NOT_ALLOWED, "only GET"));
        }
        // Another name that leads here is how a page from elsewhere would get in (DNS rebinding).
        let Some(host) = text(headers, &HOST) else { return Some((StatusCode::BAD_REQUEST, "no Host")) };
        if !self.names.iter().any(|name| *name == without_port(host).to_ascii_lowercase()) {
            return Some((StatusCode::MISDIRECTED_REQUEST, "this kiosk is not called so; see kiosk.names"));
        }
        if let Some(origin) = headers.get(ORIGIN) {
            let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
            if !own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
                return Some((StatusCode::FORBIDDEN, "pages from elsewhere may not use this kiosk"));
            }
        }
        if text(headers, &HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site") {
            return Some((StatusCode::FORBIDDEN, "pages from elsewhere may not use this kiosk"));
        }
        None
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let cookies = text(headers, &COOKIE).into_iter().flat_map(|value| value.split(';'));
        let cookie = cookies.filter_map(|cookie| cookie.trim().split_once('=')).find(|(name, _)| *name == COOKIE_NAME);
        bearer.into_iter().chain(cookie.map(|(_, value)| value)).any(|given| Sha256::of(given.as_bytes()) == *token)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The name or address without the port.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

/// Lets a request through, or answers why not. All answers forbid what this page never needs.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let mut response = match guard.refusal(request.method(), request.headers()) {
        Some((status, why)) => (status, why).into_response(),
        None if guard.knows(request.headers()) => next.run(request).await,
        None => sign_in(&guard, &request),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

/// `/?token=…` once: from then on a cookie, which other pages cannot use, says it.
fn sign_in(guard: &Guard, request: &Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let given = query.split('&').find_map(|pair| pair.strip_prefix("token="));
    let right = given.filter(|given| guard.token.as_ref().is_some_and(|token| Sha256::of(given.as_bytes()) == *token));
    match right {
        Some(token) if request.uri().path() == "/" => {
            let cookie = format!("{COOKIE_NAME}={token}; HttpOnly; Secure; SameSite=Strict; Path=/");
            (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)]).into_response()
        }
        _ => (StatusCode::UNAUTHORIZED, "open the page once with /?token=… (see kiosk.token_file)").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(text: &str) -> Guard {
        Guard::new(&serde_yaml::from_str(text).unwrap()).unwrap()
    }

    fn refusal(guard: &Guard, headers: &[(&'static str, &str)]) -> Option<u16> {
        let pairs = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        guard.refusal(&Method::GET, &pairs.collect()).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_pages_of_this_kiosk_get_through() {
        let guard = guard("{names: [Kiosk-7.clinic]}");
        for host in ["localhost:8480", "127.0.0.1:8480", "[::1]:8480", "[::1]", "kiosk-7.clinic", "KIOSK-7.clinic:1"] {
            assert_eq!(refusal(&guard, &[("host", host)]), None, "{host}");
        }
        assert_eq!(refusal(&guard, &[]), Some(400));
        assert_eq!(refusal(&guard, &[("host", "evil.example")]), Some(421));
        let local = ("host", "localhost:8480");
        assert_eq!(refusal(&guard, &[local, ("origin", "http://localhost:8480")]), None);
        for origin in ["http://localhost", "http://localhost:9", "https://evil.example", "null", "localhost:8480"] {
            assert_eq!(refusal(&guard, &[local, ("origin", origin)]), Some(403), "{origin}");
        }
        assert_eq!(refusal(&guard, &[local, ("sec-fetch-site", "cross-site")]), Some(403));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        assert!(guard.refusal(&Method::POST, &headers).is_some());
    }

    #[test]
    fn a_token_is_wanted_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let guard = guard(&format!("{{token_file: {}}}", file.display()));
        let knows = |name: HeaderName, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            guard.knows(&headers)
        };
        assert!(knows(COOKIE, "other=1; anemiad=0123456789abcdef"));
        assert!(knows(AUTHORIZATION, "Bearer 0123456789abcdef"));
        assert!(!knows(COOKIE, "anemiad=0123456789abcdeF") && !knows(HOST, "localhost"));
        for bad in ["short", "a token of the clinic", "0123456789abcdef#1", "0123456789abcdefä"] {
            std::fs::write(&file, bad).unwrap();
            let settings = serde_yaml::from_str(&format!("{{token_file: {}}}", file.display())).unwrap();
            assert!(Guard::new(&settings).is_err(), "{bad}");
        }
    }
}
