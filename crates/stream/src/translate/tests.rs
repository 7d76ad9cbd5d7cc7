//! A WebSocket client on one side, a SPDY server that plays the container runtime on the other.

use futures::{SinkExt, StreamExt};
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

#[test]
fn queries() {
    let check = |query: &str, wanted: Command| assert_eq!(Command::from_query(query), wanted, "{query}");
    check("command=sh&stdin=true&stdout=true&tty=true&stderr=true", Command { stdin: true, stdout: true, stderr: false, tty: true });
    check("stdout=1&stderr=1", Command { stdout: true, stderr: true, ..Command::default() });
    check("", Command::default());
}

/// `cat`: echoes standard input to standard output, then reports success.
async fn cat(connection: DuplexStream, tasks: Tasks) {
    let (_session, mut accepted) = Session::server(connection, &tasks);
    let mut streams = std::collections::HashMap::new();
    for _ in 0..3 {
        let stream = accepted.recv().await.unwrap();
        streams.insert(stream.header("streamtype").unwrap().to_owned(), stream);
    }
    let (stdout, error) = (streams["stdout"].sender(), streams["error"].sender());
    let stdin = streams.get_mut("stdin").unwrap();
    while let Some(data) = stdin.next().await {
        stdout.send(data).await.unwrap();
    }
    stdout.finish().await.unwrap();
    error.send(Bytes::from_static(br#"{"status":"Success"}"#)).await.unwrap();
    error.finish().await.unwrap();
}

#[tokio::test]
async fn a_command_with_input_runs_to_its_end() {
    let tasks = Tasks::new();
    let (runtime, theirs) = tokio::io::duplex(4096);
    let (near, far) = tokio::io::duplex(4096);
    tasks.spawn("cat", cat(theirs, tasks.clone()));
    let command = Command { stdin: true, stdout: true, ..Command::default() };
    let translation = tokio::spawn(remote_command(far, runtime, command));
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    for part in ["hello ", "world"] {
        client.send(Message::Binary([&[STDIN], part.as_bytes()].concat().into())).await.unwrap();
    }
    client.send(Message::Binary(vec![websocket::CLOSE, STDIN].into())).await.unwrap();
    let (mut stdout, mut error) = (Vec::new(), Vec::new());
    while let Some(message) = client.next().await {
        match message.unwrap() {
            Message::Binary(bytes) if bytes[0] == STDOUT => stdout.extend_from_slice(&bytes[1..]),
            Message::Binary(bytes) if bytes[0] == ERROR => error.extend_from_slice(&bytes[1..]),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stdout, b"hello world");
    assert_eq!(error, br#"{"status":"Success"}"#);
    translation.await.unwrap().unwrap();
    tasks.stop();
}

#[tokio::test]
async fn a_tunnel_carries_bytes() {
    let (runtime, mut theirs) = tokio::io::duplex(64);
    let (near, far) = tokio::io::duplex(64);
    let tunnel = tokio::spawn(tunnel(far, runtime));
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    client.send(Message::Binary(Bytes::from_static(b"ping"))).await.unwrap();
    let mut buffer = [0; 4];
    theirs.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping");
    theirs.write_all(b"pong").await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"pong")));
    drop(theirs);
    assert!(matches!(client.next().await.unwrap().unwrap(), Message::Close(_)));
    tunnel.await.unwrap().unwrap();
}
