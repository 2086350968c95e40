"""Named, seeded faults: ordinary parts that break something at a point somebody chose.

Same seed, same faults. A fault counts how often it ``fired``, so that the damage can be compared with its cause, and writes
itself into a history if it is given one.

==================  =================================================  ==================================================
fault               what happens                                       how
==================  =================================================  ==================================================
crash               an exception nobody catches, at a point            ``at("applied", crash("a name", every=50))``
kill                SIGKILL to itself, at a point                      ``Relay(…, at=kill("published", nth=2))``
deliver twice       the broker repeats a delivery                      ``DeliverTwice(subscription, every=10)``
drop the ack        the broker never hears of an ack                   ``DropAcks(subscription, every=10)``
delay               a delivery is overtaken by later ones              ``Delay(subscription, up_to_s=5, share=0.1)``
shuffle             the order within a window is another               ``Shuffle(subscription, window=50)``
pause               a process is frozen, past its lease if need be     ``pause(pid, for_s=15)``, ``with paused(pid):``
kill from outside   SIGKILL to another process                         ``processes.kill(pid)``
kill a service      SIGKILL to a broker or Postgres, which stays down  ``services.kill("kafka")``
restart             taken down, in one of three ways, and back         ``services.restart("postgres", mode="immediate")``
freeze a service    connections stay open, and nothing answers         ``with services.frozen("rabbitmq"):``
terminate backends  Postgres ends every session but the caller's       ``services.terminate_backends(dsn)``
disk full           Postgres has no room left on a small disk          ``with services.disk_full(home=…):``
shifted clock       a process's wall clock is off by hours             ``services.shifted_clock(hours=-1)``
latency             all that is said comes later                       ``with proxy.latency(200, jitter_ms=50):``
bandwidth           so many thousand bytes a second                    ``with proxy.bandwidth(64):``
slow_close          the other side hears late of a close               ``with proxy.slow_close(500):``
timeout             silence, and then a close, or none with 0          ``with proxy.timeout(1000):``
reset_peer          connections are reset, at once or after a time     ``with proxy.reset_peer():``
slicer              data comes in crumbs                               ``with proxy.slicer(64, delay_us=100):``
limit_data          connections are closed after so many bytes         ``with proxy.limit_data(20_000):``
down                clients are refused, and those inside are cut      ``with proxy.down():``
==================  =================================================  ==================================================

The points have names, and :data:`POINTS` has them in words: after read, after publish and before mark, after effect and
before commit, after commit and before ack. What a nack does to deliveries that are kept back stands in :mod:`.holding`. A
proxy is made with ``Proxy.before(url)`` and reached by ``proxy.url(url)``; :data:`KINDS` has what it can do by name, and
``proxy.add(kind)`` does it.
"""

from reference.evidence.faults import processes, services
from reference.evidence.faults.chance import OnceIn
from reference.evidence.faults.deliveries import Delay, DeliverTwice, DropAcks, Shuffle
from reference.evidence.faults.points import POINTS, Crash, at, check_point, crash, kill, somewhere
from reference.evidence.faults.processes import pause, paused
from reference.evidence.faults.proxy import KINDS, Proxy

__all__ = [
    "KINDS",
    "POINTS",
    "Crash",
    "Delay",
    "DeliverTwice",
    "DropAcks",
    "OnceIn",
    "Proxy",
    "Shuffle",
    "at",
    "check_point",
    "crash",
    "kill",
    "pause",
    "paused",
    "processes",
    "services",
    "somewhere",
]
