use super::*;

fn poll(admission: &mut Admission<'_>) -> Poll<Result<Permit, SubmitError>> {
    Pin::new(admission).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn waiters_are_served_in_order_and_never_overtaken() {
    let budget = Budget::new(100);
    let all = budget.try_take(100).unwrap();
    let mut big = budget.admission(90);
    let mut small = budget.admission(10);
    assert!(poll(&mut big).is_pending() && poll(&mut small).is_pending());
    assert!(budget.try_take(1).is_none());
    drop(all);
    assert!(budget.try_take(1).is_none());
    let Poll::Ready(Ok(permit)) = poll(&mut big) else { panic!("not served") };
    assert!(matches!(poll(&mut small), Poll::Ready(Ok(_))));
    drop(permit);
    assert_eq!(budget.in_use(), 0);
}

#[test]
fn giving_up_a_wait_returns_everything() {
    let budget = Budget::new(100);
    let all = budget.try_take(100).unwrap();
    let mut first = budget.admission(60);
    let mut second = budget.admission(60);
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(all);
    drop(first);
    let Poll::Ready(Ok(permit)) = poll(&mut second) else { panic!("not served") };
    drop(permit);
    assert_eq!(budget.in_use(), 0);
}

#[test]
fn more_than_the_total_is_admitted_alone() {
    let budget = Budget::new(100);
    let permit = budget.try_take(1000).unwrap();
    assert!(permit.covers(&budget, 1000));
    assert!(budget.try_take(1).is_none());
}

#[test]
fn closing_ends_the_waits() {
    let budget = Budget::new(10);
    let _all = budget.try_take(10).unwrap();
    let mut waiting = budget.admission(1);
    assert!(poll(&mut waiting).is_pending());
    budget.close();
    assert!(matches!(poll(&mut waiting), Poll::Ready(Err(SubmitError::Closed))));
}
