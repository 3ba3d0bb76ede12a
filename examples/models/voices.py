"""Resemblyzer's trained voice encoder, on utterances of ten synthetic voices."""

import numpy
from resemblyzer import VoiceEncoder, audio
from scipy.signal import lfilter

TASK = "embedding"
RATE, FRAMES, VOICES, ITEMS = 16_000, 160, 10, 200
VOWELS = [  # three resonances in Hz of each vowel (Peterson and Barney, 1952)
    *((270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440)),
    *((570, 840, 2410), (440, 1020, 2240), (300, 870, 2240)),
]


def make_model():
    return VoiceEncoder("cpu", verbose=False)


def load_data(split):
    voices, random = numpy.random.RandomState(0), numpy.random.RandomState(len(split))
    pitches = 90 * 3 ** voices.permutation(numpy.linspace(0, 1, VOICES))
    vowels = VOWELS / voices.uniform(0.8, 1.25, (VOICES, 1, 1)) * voices.uniform(0.9, 1.1, (VOICES, 8, 3))
    labels = numpy.arange(ITEMS) % VOICES
    return numpy.stack([utter(pitches[voice], vowels[voice], random) for voice in labels]), labels


def utter(pitch, vowels, random):
    """Return the mel spectrogram of eight vowels of a voice: pulses through three resonances."""
    sounds = []
    for formants in random.permutation(vowels):
        phase = numpy.cumsum(pitch * numpy.linspace(*random.uniform(0.9, 1.1, 2), RATE // 5)) / RATE
        sound = lfilter([1], [1, -0.95], numpy.diff(numpy.floor(phase)))  # higher harmonics are weaker
        for formant in formants:
            radius, angle = numpy.exp(-numpy.pi * 80 / RATE), 2 * numpy.pi * formant / RATE
            sound = lfilter([1 - radius], [1, -2 * radius * numpy.cos(angle), radius**2], sound)
        sounds.append(sound)
    sound = numpy.concatenate(sounds)
    sound += 0.01 * sound.std() * random.normal(size=len(sound))
    return audio.wav_to_mel_spectrogram(audio.normalize_volume(sound, -30))[:FRAMES]
