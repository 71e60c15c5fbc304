/** The messages and the service of the contract, as generated. */
export * from "./gen/atelier/v1/artifact_pb.js";
export * from "./gen/atelier/v1/engine_pb.js";
export * from "./gen/atelier/v1/generation_pb.js";
export * from "./gen/atelier/v1/generation_service_pb.js";
export * from "./gen/atelier/v1/task_pb.js";
