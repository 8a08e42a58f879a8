//! The bus: what operator and node-agent both do with NATS JetStream.
