//! Messages from protobuf's JSON and to it, by the descriptors of the contract.
use std::sync::LazyLock;

use prost::Name;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;

static CONTRACT: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let descriptors = include_bytes!("../../../../server/atelier_server/rpc/contract.binpb");
    DescriptorPool::decode(descriptors.as_slice()).expect("the contract is damaged")
});

fn descriptor<T: Name>() -> MessageDescriptor {
    CONTRACT.get_message_by_name(&T::full_name()).expect("the contract lacks a message")
}

/// The message that the JSON says; none stands for an empty one.
pub fn read<T: Name + Default>(json: &Value) -> T {
    if json.is_null() {
        return T::default();
    }
    let message = DynamicMessage::deserialize(descriptor::<T>(), json).expect("the JSON is not of this message");
    message.transcode_to().expect("the stubs are not of this contract")
}

/// The JSON of a message.
pub fn write<T: Name>(message: &T) -> Value {
    let bytes = message.encode_to_vec();
    let message =
        DynamicMessage::decode(descriptor::<T>(), bytes.as_slice()).expect("the stubs are not of this contract");
    serde_json::to_value(message).expect("the message has no JSON")
}
