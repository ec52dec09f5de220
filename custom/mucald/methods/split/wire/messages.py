"""The messages of the split protocol: frames of its phases and fields."""

from mucald.methods.split.config import WireConfig
from mucald.methods.split.wire.phases import Field, Phase
from mucald.wire import frame
from mucald.wire.frame import MAX_MESSAGE_BYTES, VERSION, Data, Kind, Message

__all__ = ["VERSION", "Field", "Kind", "Message", "Phase", "decode", "payload_types"]


def decode(data: Data, max_bytes: int = MAX_MESSAGE_BYTES) -> Message[Phase, Field]:
    """Decode and validate a message of this protocol, see :func:`mucald.wire.frame.decode`."""
    return frame.decode(data, Phase, max_bytes)


def payload_types(wire: WireConfig) -> dict[Field, str]:
    """Return the payload types that a job chooses; all other fields have one each."""
    return {
        Field.LATENT: wire.latent,
        Field.FEATURES: wire.features,
        Field.FEATURE_GRADIENT: wire.feature_gradient,
        Field.LATENT_GRADIENT: wire.latent_gradient,
    }
