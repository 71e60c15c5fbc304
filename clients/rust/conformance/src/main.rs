//! Runs the cases of `clients/conformance` with this client: `atelier-conformance FILE`.
//!
//! FILE is JSON with `servers` and `cases`. Each case ends with one line of JSON on standard output: its name, and what
//! was wrong, which is empty if nothing was.
mod calls;
mod messages;

use std::collections::HashMap;
use std::time::Duration;

use atelier_client::{Client, Code, Error};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Told {
    servers: HashMap<String, Server>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Server {
    address: String,
    #[serde(default)]
    token: String,
    ca: Option<String>,
}

/// A call, and what it must find.
#[derive(Deserialize)]
pub struct Case {
    name: String,
    call: String,
    server: Option<String>,
    token: Option<String>,
    timeout_ms: Option<u64>,
    #[serde(default)]
    request: Value,
    #[serde(default)]
    size: usize,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    expect: Value,
    error: Option<Value>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("FILE is missing")?;
    let told: Told = serde_json::from_slice(&std::fs::read(file)?)?;
    for one in &told.cases {
        let server = &told.servers[one.server.as_deref().unwrap_or("plain")];
        let wrong = run(&connect(server, one)?, one).await;
        println!("{}", json!({"name": one.name, "wrong": wrong}));
    }
    Ok(())
}

fn connect(server: &Server, one: &Case) -> Result<Client, Error> {
    let mut builder = Client::builder(&server.address)
        .token(one.token.as_ref().unwrap_or(&server.token))
        .reconnect_timeout(Duration::from_secs(300));
    if let Some(ca) = &server.ca {
        builder = builder.authorities(ca);
    }
    let client = builder.connect()?;
    Ok(match one.timeout_ms {
        None => client,
        Some(timeout) => client.with_timeout(Duration::from_millis(timeout)),
    })
}

/// What was wrong; empty if nothing was.
async fn run(client: &Client, one: &Case) -> String {
    match (calls::make(client, one).await, &one.error) {
        (Ok(found), Some(_)) => format!("succeeded with {found}"),
        (Ok(found), None) => differ(&one.expect, &found, ""),
        (Err(error), None) => format!("failed: {error}"),
        (Err(error), Some(expected)) => {
            let fields: Vec<_> = error.fields.keys().collect();
            let found = json!({"code": name_of(error.code), "reason": error.reason, "fields": fields});
            let wrong = differ(expected, &found, "error");
            if wrong.is_empty() { wrong } else { format!("{wrong}: {error}") }
        }
    }
}

/// Where what was found is not what was expected, which may name less; empty if nowhere.
fn differ(expected: &Value, found: &Value, path: &str) -> String {
    if let Value::Object(parts) = expected {
        let part = |key: &str| match found {
            Value::Array(list) => key.parse().ok().and_then(|index: usize| list.get(index)),
            found => found.get(key),
        };
        let differences =
            parts.iter().map(|(key, value)| differ(value, part(key).unwrap_or(&Value::Null), &format!("{path}.{key}")));
        return differences.into_iter().find(|wrong| !wrong.is_empty()).unwrap_or_default();
    }
    let same = expected == found || (expected.is_number() && expected.as_f64() == found.as_f64());
    if same { String::new() } else { format!("{path} is {found}, not {expected}") }
}

/// The code by gRPC's name.
fn name_of(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
