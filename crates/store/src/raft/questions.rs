//! What a member asks of the leader beside Raft's messages, and the answers, as bytes. Nothing that a peer sends may panic.

use std::time::Duration;

use bytes::Bytes;

use super::reads::LeaseAsk;
use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};
use crate::kv::{KvError, LeaseStatus};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Lease(LeaseAsk),
    Promote(u64),
}

impl Question {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Lease(LeaseAsk::Renew(id)) => {
                out.push(1);
                put_int(&mut out, *id);
            }
            Self::Lease(LeaseAsk::Status(id)) => {
                out.push(2);
                put_int(&mut out, *id);
            }
            Self::Promote(id) => {
                out.push(3);
                put_uint(&mut out, *id);
            }
        }
        out.into()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let question = match reader.byte()? {
            1 => Self::Lease(LeaseAsk::Renew(reader.int()?)),
            2 => Self::Lease(LeaseAsk::Status(reader.int()?)),
            3 => Self::Promote(reader.uint()?),
            _ => return Err(DecodeError("an unknown question")),
        };
        reader.end()?;
        Ok(question)
    }
}

/// The errors that come back as they were, by their byte; others as texts.
fn known() -> [KvError; 11] {
    use KvError::*;
    [
        LeaseNotFound,
        NotLeader,
        Timeout,
        TimeoutLeaderFailed,
        MemberNotFound,
        MemberNotLearner,
        LearnerNotReady,
        NotEnoughStarted,
        UnhealthyCluster,
        TooManyRequests,
        NoLeader,
    ]
}

/// An answer; `None` where there is nothing to say but that it is done.
pub(super) fn encode_answer(answer: &Result<Option<LeaseStatus>, KvError>) -> Bytes {
    let mut out = Vec::new();
    match answer {
        Ok(None) => out.push(0),
        Ok(Some(status)) => {
            out.push(1);
            put_int(&mut out, status.id);
            for time in [status.granted_ttl, status.remaining_ttl] {
                put_uint(&mut out, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            }
            put_uint(&mut out, status.keys.len() as u64);
            status.keys.iter().for_each(|key| put_bytes(&mut out, key));
        }
        Err(error) => match known().iter().position(|known| known == error) {
            Some(place) => out.extend([2, place as u8]),
            None => {
                out.push(3);
                put_bytes(&mut out, error.to_string().as_bytes());
            }
        },
    }
    out.into()
}

pub(super) fn decode_answer(bytes: &[u8]) -> Result<Option<LeaseStatus>, KvError> {
    read_answer(bytes).unwrap_or_else(|error| Err(KvError::Internal(format!("the leader's answer cannot be understood: {error}"))))
}

fn read_answer(bytes: &[u8]) -> Result<Result<Option<LeaseStatus>, KvError>, DecodeError> {
    let mut reader = Reader(bytes);
    let answer = match reader.byte()? {
        0 => Ok(None),
        1 => {
            let id = reader.int()?;
            let (granted_ttl, remaining_ttl) = (Duration::from_millis(reader.uint()?), Duration::from_millis(reader.uint()?));
            Ok(Some(LeaseStatus { id, granted_ttl, remaining_ttl, keys: reader.list(Reader::bytes)? }))
        }
        2 => Err(known().get(usize::from(reader.byte()?)).cloned().ok_or(DecodeError("an unknown error"))?),
        3 => Err(KvError::Unavailable(String::from_utf8_lossy(reader.slice()?).into_owned())),
        _ => return Err(DecodeError("an unknown kind of answer")),
    };
    reader.end()?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_survive() {
        for question in [Question::Lease(LeaseAsk::Renew(-1)), Question::Lease(LeaseAsk::Status(7)), Question::Promote(u64::MAX)] {
            assert_eq!(Question::decode(&question.encode()).unwrap(), question);
        }
        let status = LeaseStatus {
            id: 7,
            granted_ttl: Duration::from_secs(5),
            remaining_ttl: Duration::from_millis(1),
            keys: vec!["a".into(), "b".into()],
        };
        let again = decode_answer(&encode_answer(&Ok(Some(status.clone())))).unwrap().unwrap();
        assert_eq!(format!("{again:?}"), format!("{status:?}"));
        assert!(decode_answer(&encode_answer(&Ok(None))).unwrap().is_none());
        for error in known() {
            assert_eq!(decode_answer(&encode_answer(&Err(error.clone()))).unwrap_err(), error);
        }
        let other = decode_answer(&encode_answer(&Err(KvError::LeaseExists))).unwrap_err();
        assert_eq!(other, KvError::Unavailable(KvError::LeaseExists.to_string()));
        assert!(decode_answer(&[]).is_err() && decode_answer(&[2, 99]).is_err());
    }
}
