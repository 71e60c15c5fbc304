//! Writes the generated code of the client: `atelier-codegen DESCRIPTORS FOLDER`.
//!
//! DESCRIPTORS is a `FileDescriptorSet` with comments, as `buf build --as-file-descriptor-set` makes it.
use std::{env, error::Error, fs};

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let descriptors = arguments.next().ok_or("DESCRIPTORS is missing")?;
    let folder = arguments.next().ok_or("FOLDER is missing")?;
    let mut files = FileDescriptorSet::decode(fs::read(descriptors)?.as_slice())?;
    // The server checks requests: no code of protovalidate.
    files.file.retain(|file| !file.name().starts_with("buf/"));
    fs::create_dir_all(&folder)?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure().build_server(false).out_dir(folder).compile_fds_with_config(files, config)?;
    Ok(())
}
