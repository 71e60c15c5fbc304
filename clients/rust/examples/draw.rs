//! Generates an image with a progress bar, and saves it:
//!
//! `cargo run --example draw -- "a red apple" apple.png [http://localhost:50051]`
use std::error::Error;

use atelier_client::Client;
use atelier_client::contract::{GenerateRequest, ImageTask, generate_request::Task};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments.next().unwrap_or("a red apple".into());
    let file = arguments.next().unwrap_or("apple.png".into());
    let address = arguments.next().unwrap_or("http://localhost:50051".into());
    tokio::select! {
        outcome = draw(prompt, &file, address) => outcome,
        _ = tokio::signal::ctrl_c() => Err("cancelled".into()), // dropping the events cancels the task
    }
}

async fn draw(prompt: String, file: &str, address: String) -> Result<(), Box<dyn Error>> {
    let token = std::env::var("ATELIER_TOKEN").unwrap_or_default();
    let client = Client::builder(address).token(token).connect()?;
    let task = Some(Task::Image(ImageTask { prompt, ..Default::default() }));
    let mut events = client.stream(GenerateRequest { task, ..Default::default() });
    let mut generation = None;
    while let Some(event) = events.next().await {
        let event = event?;
        eprint!("\r[{:30}] {:12}", "#".repeat((event.progress * 30.0) as usize), event.stage);
        generation = event.generation;
    }
    let generation = generation.ok_or("the stream ended without an outcome")?;
    let output = generation.outputs.first().ok_or_else(|| format!("no image: {:?}", generation.failure))?;
    let artifact = output.artifact.as_ref().ok_or("an output without a file")?;
    std::fs::write(file, client.download(&artifact.id).await?)?;
    eprintln!("\n{file}");
    Ok(())
}
