//! What fuzzers call, and quick runs of the same as tests: bytes of a client or of a server give values or errors, never panics.

use prost::Message;

use crate::server::gateway;
use crate::{convert, pb};

/// A request in protobuf; the first byte says which. What the store is asked for is asked for again the same.
pub fn request(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Some(request) = pb::RangeRequest::decode(data).ok().and_then(|request| convert::range_from_pb(request).ok()) {
                let again = convert::range_from_pb(convert::range_to_pb(request.clone())).expect("what was read can be sent");
                assert_eq!(format!("{again:?}"), format!("{request:?}"));
            }
        }
        1 => {
            if let Some(txn) = pb::TxnRequest::decode(data).ok().and_then(|request| convert::txn_from_pb(request).ok()) {
                let again = convert::txn_from_pb(convert::txn_to_pb(txn.clone())).expect("what was read can be sent");
                assert_eq!(format!("{again:?}"), format!("{txn:?}"));
            }
        }
        2 => {
            if let Ok(response) = pb::TxnResponse::decode(data) {
                let _ = convert::txn_response_from_pb(response);
            }
        }
        _ => {
            if let Ok(response) = pb::WatchResponse::decode(data) {
                response.events.into_iter().for_each(|event| {
                    let _ = convert::event_from_pb(event);
                });
            }
        }
    }
}

/// The gateway: a byte for the method, then a request's text, and the same bytes as an answer.
pub fn gateway(data: &[u8]) {
    gateway::fuzz(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn requests(data in prop::collection::vec(0u8..60, 0..80)) {
            super::request(&data);
        }

        #[test]
        fn texts(method in any::<u8>(), text in r#"\{("(key|limit|sort_order|compare|success|requestPut|ID|TTL)":("[A-Za-z0-9=]{0,6}"|-?[0-9]{1,20}|true|null|\[\{\}\]|\{\}),?){0,4}\}"#) {
            let mut data = vec![method];
            data.extend_from_slice(text.as_bytes());
            super::gateway(&data);
        }

        #[test]
        fn answers(data in prop::collection::vec(0u8..60, 0..80)) {
            super::gateway(&data);
        }
    }
}
