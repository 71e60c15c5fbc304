//! A client of Atelier, a service that generates images and audio: a thin layer over the stubs in [`contract`].
//!
//! ```no_run
//! use atelier_client::{Client, contract::{GenerateRequest, ImageTask, generate_request::Task}};
//!
//! # async fn draw() -> Result<(), atelier_client::Error> {
//! let client = Client::builder("http://localhost:50051").token("a key").connect()?;
//! let image = ImageTask { prompt: "a red apple".into(), ..Default::default() };
//! let mut events = client.stream(GenerateRequest { task: Some(Task::Image(image)), ..Default::default() });
//! while let Some(event) = events.next().await {
//!     let event = event?;
//!     println!("{} {}", event.stage, event.progress);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Lost connections
//!
//! A task carries a request id, so it may be sent again. A stream whose connection is lost is opened again after its
//! last event, for up to 30 seconds without an answer (see [`Builder::reconnect_timeout`]); no event comes twice. A
//! download goes on at its last byte, an upload begins anew. [`Client::call`] repeats calls with one answer, with the
//! delay that the server gives.
//!
//! # Cancelling
//!
//! Dropping [`Events`], or the future of [`Client::generate`], cancels the task. Dropping those of [`Client::attach`]
//! does not.
#![warn(missing_docs)]

mod client;
mod connect;
mod error;
mod events;
mod reachability;
mod transfer;

pub use client::Client;
pub use connect::{Authorization, Builder, Stub};
pub use error::Error;
pub use events::Events;
pub use tonic::Code;

/// The messages and the service of the contract, as generated.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod contract {
    include!("gen/atelier.v1.rs");
}
