//! The messages and services of etcd's protocol, generated from `proto`. Holds no behaviour.
#![allow(clippy::all, missing_docs, reason = "generated code")]

pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

pub mod authpb {
    tonic::include_proto!("authpb");
}

pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

pub use etcdserverpb::*;
pub use mvccpb::{Event, KeyValue};
