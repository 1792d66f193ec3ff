//! The places that connections take: how many in all, and how many for one address.
//!
//! Not who gets in. The invariants: whoever comes from one address cannot fill all places, and even less
//! before it has shown a credential that opens something; a trusted proxy, which speaks for many, may.
//! `server` asks for a place when it has taken a connection; it is free again when the place is dropped.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::HttpLimits;

/// An IPv6 network of this size is one customer's, who may use any address of it (RFC 6177).
const IPV6_NETWORK: u32 = 64;

/// The places of the entrances that share them.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

/// How many places each address has taken. Bounded by the places.
#[derive(Debug)]
struct Addresses {
    most: usize,
    most_unproven: usize,
    taken: Mutex<HashMap<IpAddr, Taken>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    all: usize,
    unproven: usize,
}

/// The place of one connection, for as long as anything of it is left.
#[derive(Debug)]
pub(super) struct Place {
    _one_of_all: OwnedSemaphorePermit,
    /// Where the address is counted.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
    is_proven: AtomicBool,
}

/// What an address has taken as much of as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// Places.
    #[error(
        "your address has {0} connections open, which is all that it may have (`limits.connections_per_address`): close some"
    )]
    All(usize),
    /// Places of connections that have shown no credential.
    #[error(
        "your address has {0} connections open that have shown no valid credential, which is all that it may have (`limits.unproven_per_address`): close some, or use those that are open"
    )]
    Unproven(usize),
}

impl Places {
    pub(super) fn new(limits: &HttpLimits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            addresses: Arc::new(Addresses {
                most: limits.connections_per_address,
                most_unproven: limits.unproven_per_address,
                taken: Mutex::default(),
            }),
        }
    }

    /// One of all places, once one is free.
    pub(super) async fn one_of_all(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.all).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// The place of a connection whose address may have any number.
    pub(super) fn uncounted(one_of_all: OwnedSemaphorePermit) -> Place {
        Place { _one_of_all: one_of_all, counted: None }
    }

    /// The place of a connection from `address`.
    ///
    /// # Errors
    /// The address has as many as it may have.
    pub(super) fn counted(&self, one_of_all: OwnedSemaphorePermit, address: IpAddr) -> Result<Place, Full> {
        let address = network(address);
        self.addresses.take(address)?;
        let addresses = Arc::clone(&self.addresses);
        let counted = Counted { addresses, address, is_proven: AtomicBool::new(false) };
        Ok(Place { _one_of_all: one_of_all, counted: Some(counted) })
    }
}

impl Place {
    /// Whether it matters what its connection shows.
    pub(super) fn is_counted(&self) -> bool {
        self.counted.is_some()
    }

    /// Its connection has shown a credential that opens something.
    pub(super) fn prove(&self) {
        if let Some(Counted { addresses, address, is_proven }) = &self.counted
            && !is_proven.swap(true, Ordering::Relaxed)
        {
            addresses.change(*address, |taken| taken.unproven -= 1);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let unproven = usize::from(!self.is_proven.load(Ordering::Relaxed));
        self.addresses.change(self.address, |taken| {
            taken.all -= 1;
            taken.unproven -= unproven;
        });
    }
}

impl Addresses {
    fn take(&self, address: IpAddr) -> Result<(), Full> {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.get(&address).copied().unwrap_or_default();
        if taken.all >= self.most {
            return Err(Full::All(taken.all));
        }
        if taken.unproven >= self.most_unproven {
            return Err(Full::Unproven(taken.unproven));
        }
        all.insert(address, Taken { all: taken.all + 1, unproven: taken.unproven + 1 });
        Ok(())
    }

    fn change(&self, address: IpAddr, change: impl FnOnce(&mut Taken)) {
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.get_mut(&address).expect("a place is counted until it is dropped");
        change(taken);
        if taken.all == 0 {
            all.remove(&address);
        }
    }
}

/// What counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) >> (128 - IPV6_NETWORK) << (128 - IPV6_NETWORK);
            Ipv6Addr::from(bits).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take(places: &Places, address: &str) -> Result<Place, Full> {
        places.counted(places.one_of_all().await, address.parse().unwrap())
    }

    fn places() -> Places {
        Places::new(&HttpLimits {
            connections_per_address: 3,
            unproven_per_address: 2,
            ..HttpLimits::default()
        })
    }

    #[tokio::test]
    async fn an_address_has_few_places_before_it_shows_a_credential_and_more_afterwards() {
        let places = places();
        let first = take(&places, "192.0.2.1").await.unwrap();
        let second = take(&places, "::ffff:192.0.2.1").await.unwrap();
        assert_eq!(take(&places, "192.0.2.1").await.unwrap_err(), Full::Unproven(2));
        assert!(take(&places, "192.0.2.2").await.is_ok(), "others are not meant");
        first.prove();
        first.prove();
        let third = take(&places, "192.0.2.1").await.unwrap();
        assert_eq!(take(&places, "192.0.2.1").await.unwrap_err(), Full::All(3));
        drop((first, second, third));
        assert!(places.addresses.taken.lock().unwrap().is_empty(), "nobody is remembered who is gone");
        assert!(take(&places, "192.0.2.1").await.is_ok());
    }

    #[tokio::test]
    async fn a_network_of_ipv6_counts_as_one_address() {
        let places = places();
        let _held =
            (take(&places, "2001:db8::1").await.unwrap(), take(&places, "2001:db8::2").await.unwrap());
        assert_eq!(take(&places, "2001:db8::ffff:3").await.unwrap_err(), Full::Unproven(2));
        assert!(take(&places, "2001:db8:0:1::1").await.is_ok());
    }
}
