//! Which alarms there are. A store above its quota is an alarm for as long as it is so: it comes and goes by itself, and disarming it changes nothing
//! before there is room again. Alarms that somebody raised stand until somebody takes them back, as all of etcd's do.

use store::{Alarm, AlarmKind, KvError};

use super::core::Core;
use crate::pb;
use pb::alarm_request::AlarmAction;

/// All alarms, by member and kind.
pub async fn active(core: &Core) -> Result<Vec<pb::AlarmMember>, KvError> {
    let mut alarms = core.engine.alarms();
    let full = Alarm { member: core.identity.member_id, kind: AlarmKind::NoSpace };
    if core.is_full().await? && !alarms.contains(&full) {
        alarms.push(full);
    }
    Ok(alarms.into_iter().map(to_pb).collect())
}

/// Carries out a request; the alarms that it is about (server/etcdserver/apply, Alarm).
pub async fn answer(core: &Core, engine: &store::Engine, request: pb::AlarmRequest) -> Result<Vec<pb::AlarmMember>, KvError> {
    let is_asked = |alarm: &pb::AlarmMember| {
        (request.member_id == 0 || request.member_id == alarm.member_id)
            && (request.alarm == i32::from(pb::AlarmType::None) || request.alarm == alarm.alarm)
    };
    let asked = pb::AlarmMember { member_id: request.member_id, alarm: request.alarm };
    match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Activate) => {
            let Some(alarm) = from_pb(&asked) else { return Ok(Vec::new()) };
            engine.set_alarm(alarm, true).await?;
            Ok(vec![asked])
        }
        Ok(AlarmAction::Deactivate) => {
            let ended: Vec<_> = active(core).await?.into_iter().filter(is_asked).collect();
            for alarm in ended.iter().filter_map(from_pb) {
                engine.set_alarm(alarm, false).await?;
            }
            Ok(ended)
        }
        Ok(AlarmAction::Get) => Ok(active(core).await?.into_iter().filter(is_asked).collect()),
        // etcd does nothing for an action that it does not know.
        Err(_) => Ok(Vec::new()),
    }
}

fn to_pb(alarm: Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember { member_id: alarm.member, alarm: kind.into() }
}

fn from_pb(alarm: &pb::AlarmMember) -> Option<Alarm> {
    let kind = match pb::AlarmType::try_from(alarm.alarm) {
        Ok(pb::AlarmType::Nospace) => AlarmKind::NoSpace,
        Ok(pb::AlarmType::Corrupt) => AlarmKind::Corrupt,
        Ok(pb::AlarmType::None) | Err(_) => return None,
    };
    Some(Alarm { member: alarm.member_id, kind })
}

/// As etcd writes an alarm in a member's status.
pub fn text(alarm: &pb::AlarmMember) -> String {
    let kind = pb::AlarmType::try_from(alarm.alarm).unwrap_or(pb::AlarmType::None);
    format!("memberID:{} alarm:{} ", alarm.member_id, kind.as_str_name())
}
