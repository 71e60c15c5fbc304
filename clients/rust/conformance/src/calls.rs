//! The calls of the cases.
use atelier_client::contract::{GenerateRequest, GetGenerationRequest, HealthRequest, PlanGenerationRequest, State};
use atelier_client::{Client, Error};
use serde_json::{Value, json};

use crate::Case;
use crate::messages::{read, write};

/// Makes the call, and returns what it has found.
pub async fn make(client: &Client, one: &Case) -> Result<Value, Error> {
    match one.call.as_str() {
        "generate" => generate(client, one).await,
        "stream" => stream(client, one).await,
        "attach" => attach(client, one).await,
        "cancel" => leave(client, one).await,
        "cancelled" => cancelled(client, one).await,
        "transfer" => transfer(client, one).await,
        "download" => {
            let id = one.request["artifactId"].as_str().unwrap_or_default();
            Ok(json!({"size": client.download(id).await?.len()}))
        }
        "get" => {
            let request: GetGenerationRequest = read(&one.request);
            let answer = client.call(async |mut stub| stub.get_generation(request.clone()).await).await?;
            Ok(write(&answer))
        }
        "plan" => {
            let request: PlanGenerationRequest = read(&one.request);
            let answer = client.call(async |mut stub| stub.plan_generation(request.clone()).await).await?;
            Ok(write(&answer))
        }
        "health" => Ok(write(&client.call(async |mut stub| stub.health(HealthRequest {}).await).await?)),
        call => Ok(json!(format!("no such call: {call}"))),
    }
}

async fn generate(client: &Client, one: &Case) -> Result<Value, Error> {
    let generation = client.generate(read(&one.request)).await?;
    let mut found = write(&generation);
    found["inlineBytes"] = generation.outputs.iter().map(|output| output.data.len()).sum::<usize>().into();
    Ok(found)
}

async fn stream(client: &Client, one: &Case) -> Result<Value, Error> {
    let mut events = client.stream(read(&one.request));
    let (mut last, mut sequences) = (String::new(), Vec::new());
    while let Some(event) = events.next().await {
        let event = event?;
        sequences.push(event.sequence);
        if let Some(generation) = event.generation {
            last = generation.state().as_str_name().into();
        }
    }
    Ok(json!({"state": last, "consecutive": are_consecutive(&sequences, 1)}))
}

async fn attach(client: &Client, one: &Case) -> Result<Value, Error> {
    let generation = client.generate(read(&one.request)).await?;
    let mut events = client.attach(generation.id, 2);
    let mut sequences = Vec::new();
    while let Some(event) = events.next().await {
        sequences.push(event?.sequence);
    }
    Ok(json!({"first": sequences.first(), "consecutive": are_consecutive(&sequences, 3)}))
}

fn are_consecutive(sequences: &[u32], first: u32) -> bool {
    sequences.iter().copied().eq((first..).take(sequences.len()))
}

/// Leaves the stream of a task once it runs, and waits for its end.
async fn leave(client: &Client, one: &Case) -> Result<Value, Error> {
    let mut generation_id = String::new();
    let mut events = client.stream(read(&one.request));
    while let Some(event) = events.next().await {
        let event = event?;
        if event.state() == State::Running {
            generation_id = event.generation_id;
            break;
        }
    }
    drop(events);
    let request = GetGenerationRequest { generation_id, inline_outputs: false };
    loop {
        let answer = client.call(async |mut stub| stub.get_generation(request.clone()).await).await?;
        let generation = answer.generation.unwrap_or_default();
        if generation.end_time.is_some() {
            return Ok(write(&generation));
        }
    }
}

/// Cancels a task once it runs, and asks for its outcome.
async fn cancelled(client: &Client, one: &Case) -> Result<Value, Error> {
    let request: GenerateRequest = read(&one.request);
    let mut events = client.stream(request.clone());
    while let Some(event) = events.next().await {
        let event = event?;
        if event.state() == State::Running {
            client.cancel(event.generation_id).await?;
        }
    }
    Ok(write(&client.generate(request).await?))
}

async fn transfer(client: &Client, one: &Case) -> Result<Value, Error> {
    let data: Vec<u8> = (0..one.size).map(|index| ((index * 31 + (index >> 8)) % 251) as u8).collect();
    let artifact = client.upload(data.clone(), &one.media_type).await?;
    let back = client.download(&artifact.id).await?;
    Ok(json!({"size": artifact.size, "same": back == data}))
}
