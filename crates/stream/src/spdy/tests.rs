//! Sessions over an in-memory pipe, and bytes that no peer should send.

use base::Tasks;
use bytes::{Bytes, BytesMut};

use super::frame::Frame;
use super::*;

#[tokio::test]
async fn streams_carry_data_both_ways_and_half_close() {
    let tasks = Tasks::new();
    let (near, far) = tokio::io::duplex(1024);
    let client = Session::client(near, &tasks);
    let (_server, mut accepted) = Session::server(far, &tasks);
    tasks.spawn("echo", async move {
        while let Some(mut stream) = accepted.recv().await {
            let mut all = BytesMut::new();
            while let Some(data) = stream.next().await {
                all.extend_from_slice(&data);
            }
            let kind = stream.header("streamtype").unwrap_or("none").to_owned();
            let sender = stream.sender();
            sender.send(Bytes::from(format!("{kind}:{}", all.len()))).await.unwrap();
            sender.finish().await.unwrap();
        }
    });
    for size in [0, 5, 200_000] {
        let mut stream = client.open(&[("streamType", "stdin")]).await.unwrap();
        stream.sender().send(Bytes::from(vec![7; size])).await.unwrap();
        stream.sender().finish().await.unwrap();
        assert_eq!(stream.next().await, Some(Bytes::from(format!("stdin:{size}"))));
        assert_eq!(stream.next().await, None);
    }
    tasks.stop();
    tasks.join().await;
}

#[tokio::test]
async fn a_peer_that_leaves_ends_its_streams() {
    let tasks = Tasks::new();
    let (near, far) = tokio::io::duplex(1024);
    let client = Session::client(near, &tasks);
    let (server, mut accepted) = Session::server(far, &tasks);
    let mut stream = client.open(&[("streamType", "stdout")]).await.unwrap();
    let theirs = accepted.recv().await.unwrap();
    drop((theirs, server));
    assert_eq!(stream.next().await, None);
    tasks.stop();
}

#[test]
fn frames_survive_the_wire() {
    let frames = [
        Frame::SynStream { id: 1, fin: false, block: Bytes::from_static(b"abc") },
        Frame::SynReply { id: 1, fin: true, block: Bytes::new() },
        Frame::RstStream { id: 3, status: 5 },
        Frame::Ping { id: 9 },
        Frame::GoAway { last: 7 },
        Frame::Headers { id: 1, fin: false, block: Bytes::from_static(b"h") },
        Frame::Data { id: 1, fin: true, data: Bytes::from_static(b"data") },
    ];
    let mut wire = BytesMut::new();
    for frame in &frames {
        frame.write(&mut wire);
    }
    let whole = wire.clone();
    for frame in &frames {
        assert_eq!(Frame::parse(&mut wire).unwrap().as_ref(), Some(frame));
    }
    for cut in 0..8 {
        assert_eq!(Frame::parse(&mut BytesMut::from(&whole[..cut])).unwrap(), None);
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        while let Ok(Some(_)) = Frame::parse(&mut buffer) {}
    }
}
