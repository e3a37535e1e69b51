//! Windows under an explicit clock.

use super::*;
use proptest::prelude::*;

const QUOTA: Quota = Quota { limit: 3, period_ms: 1_000 };

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn a_window_opens_fills_refuses_and_is_forgotten() {
    let mut window = None;
    let mut said = Vec::new();
    for now in [5_000, 5_100, 5_900, 5_999, 6_000] {
        let (next, verdict) = count(window, QUOTA, at(now));
        said.push((verdict.is_admitted, verdict.remaining, verdict.reset_at, verdict.retry_after));
        window = Some(next);
    }
    assert_eq!(said, [(true, 2, 6, 1), (true, 1, 6, 1), (true, 0, 6, 1), (false, 0, 6, 1), (true, 2, 7, 1)]);
}

#[test]
fn the_quotas_are_those_of_the_contract() {
    use {Profile::*, Purpose::*};
    let limit = |profile, purpose, signed_in| {
        quota(profile, purpose, signed_in).map(|quota| (quota.limit, quota.period_ms / 1000))
    };
    assert_eq!(limit(Original, Api, true), Some((1000, 3600)));
    assert_eq!(limit(Original, Api, false), Some((100, 3600)));
    assert_eq!(limit(Default, Api, true), Some((300, 60)));
    assert_eq!(limit(Default, Api, false), Some((300, 60)));
    assert_eq!(limit(Default, Login, false), Some((5, 60)));
    assert_eq!(limit(Default, Register, false), Some((3, 60)));
    assert_eq!(limit(Default, Free, false), None);
    assert_eq!(limit(Original, Free, true), None);
    assert_eq!(limit(Off, Login, false), None);
    for profile in [Default, Original, Off] {
        assert_eq!(profile.to_string().parse(), Ok(profile));
    }
    assert_eq!("fast".parse::<Profile>(), Err(ProfileError));
}

#[test]
fn people_and_addresses_are_counted_apart_and_purposes_too() {
    let limiter = RateLimiter::new(Profile::Default);
    let ada = UserId::parse("usr_ada").unwrap();
    let remaining = |purpose, user: Option<&UserId>, peer: &str| {
        limiter.admit(purpose, user, address(peer), at(0)).unwrap().remaining
    };
    assert_eq!(remaining(Purpose::Api, None, "10.0.0.1"), 299);
    assert_eq!(remaining(Purpose::Api, None, "10.0.0.1"), 298);
    assert_eq!(remaining(Purpose::Api, None, "10.0.0.2"), 299);
    assert_eq!(remaining(Purpose::Api, Some(&ada), "10.0.0.1"), 299);
    assert_eq!(remaining(Purpose::Api, Some(&ada), "10.0.0.9"), 298);
    assert_eq!(remaining(Purpose::Login, None, "10.0.0.1"), 4);
    assert_eq!(remaining(Purpose::Login, Some(&ada), "10.0.0.1"), 3);
    assert_eq!(remaining(Purpose::Api, None, "2001:db8::1"), 299);
    assert_eq!(remaining(Purpose::Api, None, "2001:db8::ffff:1"), 298);
    assert_eq!(remaining(Purpose::Api, None, "::ffff:10.0.0.2"), 298);
}

#[test]
fn the_sixth_sign_in_of_a_minute_is_refused_and_the_next_minute_is_free() {
    let limiter = RateLimiter::new(Profile::Default);
    let attempt = |now| limiter.admit(Purpose::Login, None, address("10.0.0.1"), at(now)).unwrap();
    assert!((0..5).all(|n| attempt(n * 1_000).check().is_ok()));
    let refused = attempt(30_000);
    assert_eq!(refused.retry_after, 30);
    assert_eq!(refused.check().unwrap_err().status(), 429);
    assert!(attempt(60_000).check().is_ok());
}

#[test]
fn the_headers_are_written() {
    let (_, verdict) = count(None, QUOTA, at(1_500));
    let mut headers = HeaderMap::new();
    verdict.write_headers(&mut headers);
    assert_eq!(headers["x-ratelimit-limit"], "3");
    assert_eq!(headers["x-ratelimit-remaining"], "2");
    assert_eq!(headers["x-ratelimit-reset"], "3");
}

#[test]
fn a_flood_of_addresses_shares_one_window_and_memory_stays() {
    let limiter = RateLimiter::with_keys_max(Profile::Default, 10);
    let admit = |n: u32, now| {
        let peer = Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(n)));
        limiter.admit(Purpose::Login, None, peer, at(now)).unwrap()
    };
    let admitted = (0..10_000).filter(|n| admit(*n, 0).is_admitted).count();
    assert_eq!(admitted, 10 + 5 * OVERFLOW_FACTOR as usize);
    assert_eq!(limiter.windows.len(), 11);
    assert!(admit(1, 1).is_admitted, "a known address keeps its own window");
    assert!(admit(77_777, 60_000).is_admitted, "ended windows make room");
    assert!(limiter.windows.len() < 11);
}

#[test]
fn a_full_table_is_not_searched_for_each_request() {
    let limiter = RateLimiter::with_keys_max(Profile::Default, 2);
    let keys_after = |n: u32, now| {
        let peer = Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(n)));
        limiter.admit(Purpose::Login, None, peer, at(now));
        limiter.windows.len()
    };
    assert_eq!([keys_after(1, 500), keys_after(2, 500)], [1, 2]);
    assert_eq!(keys_after(3, 60_000), 3, "the search finds no window that has ended; the third is the shared one");
    assert_eq!(keys_after(4, 60_999), 3, "two have ended, and it is not searched again within a second");
    assert_eq!(keys_after(5, 61_000), 2, "then it is: the shared one and the fifth are left");
}

#[test]
fn under_the_originals_profile_the_signed_in_are_counted_as_themselves_wherever_they_sign_in() {
    let limiter = RateLimiter::new(Profile::Original);
    assert_eq!(limiter.profile(), Profile::Original);
    let ada = UserId::parse("usr_ada").unwrap();
    let remaining = |user: Option<&UserId>, peer: &str| {
        limiter.admit(Purpose::Login, user, address(peer), at(0)).unwrap().remaining
    };
    assert_eq!([remaining(Some(&ada), "10.0.0.1"), remaining(Some(&ada), "10.0.0.2")], [999, 998]);
    assert_eq!([remaining(None, "10.0.0.1"), remaining(None, "10.0.0.1")], [99, 98]);
}

#[test]
fn what_may_be_held_unpaid_is_bounded_unless_there_are_no_limits() {
    let cap = |profile| unpaid_cap(profile).map(|cap| (cap.orders_max, cap.units_max));
    assert_eq!(
        [cap(Profile::Default), cap(Profile::Original), cap(Profile::Off)],
        [Some((10, 1_000)), Some((10, 1_000)), None]
    );
}

#[test]
fn concurrent_requests_are_each_counted() {
    let limiter = RateLimiter::new(Profile::Default);
    let admitted = std::thread::scope(|scope| {
        let worker = || {
            (0..100)
                .filter(|_| limiter.admit(Purpose::Api, None, address("10.0.0.1"), at(0)).unwrap().is_admitted)
                .count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(admitted, 300);
}

proptest! {
    #[test]
    fn no_window_ever_admits_more_than_its_limit(steps in prop::collection::vec(0_i64..400, 1..200)) {
        let (mut window, mut now) = (None::<Window>, 0);
        let mut admitted = std::collections::HashMap::new();
        for step in steps {
            now += step;
            let (next, verdict) = count(window, QUOTA, at(now));
            *admitted.entry(next.ends_at).or_insert(0) += u32::from(verdict.is_admitted);
            prop_assert_eq!(verdict.remaining, QUOTA.limit - next.used);
            prop_assert!(now < next.ends_at.as_millis());
            window = Some(next);
        }
        prop_assert!(admitted.values().all(|count| *count <= QUOTA.limit));
    }
}
