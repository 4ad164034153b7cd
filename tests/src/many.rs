//! Many Services with many endpoints each, for scale: nobody answers at these addresses.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use serde_json::Value;

use crate::manifest::{Endpoint, Port, Service, Slice, Source};

/// Services in a file.
const PER_FILE: u32 = 500;

/// Services `s0` onwards, each with one TCP port and an EndpointSlice.
#[derive(Clone, Copy, Debug)]
pub struct Many {
    /// How many.
    pub services: u32,
    /// Endpoints of each.
    pub endpoints: u32,
}

/// How manifests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One List a file.
    Json,
    /// One document an object.
    Yaml,
}

impl Many {
    /// The ClusterIP of a Service.
    #[must_use]
    pub fn cluster_ip(self, service: u32) -> IpAddr {
        address([10, 96, 32, 0], service)
    }

    /// Service and EndpointSlice of a number.
    pub fn objects(self, service: u32) -> Vec<Value> {
        self.objects_of(service, self.endpoints)
    }

    /// The same with some of the endpoints.
    pub fn objects_of(self, service: u32, endpoints: u32) -> Vec<Value> {
        let ports = [Port::tcp("http", 80, 8080)];
        let name = format!("s{service}");
        let endpoints: Vec<Endpoint> = (0..endpoints)
            .map(|number| {
                Endpoint::ready(address([10, 200, 0, 0], service * self.endpoints + number))
            })
            .collect();
        let slice = Slice::new(&format!("{name}-1"), &name, &ports, &endpoints);
        vec![
            Service::new(&name, &[self.cluster_ip(service)], &ports).json(),
            slice.json(),
        ]
    }

    /// Writes all of them.
    pub fn write(self, source: &Source, format: Format) -> Result<()> {
        for (number, first) in (0..self.services).step_by(PER_FILE as usize).enumerate() {
            let last = self.services.min(first + PER_FILE);
            let objects: Vec<Value> = (first..last)
                .flat_map(|service| self.objects(service))
                .collect();
            match format {
                Format::Json => source.write(&format!("services-{number:02}.json"), &objects)?,
                Format::Yaml => {
                    source.write_yaml(&format!("services-{number:02}.yaml"), &objects)?;
                }
            }
        }
        Ok(())
    }
}

fn address(base: [u8; 4], offset: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(base)) + offset).into()
}
