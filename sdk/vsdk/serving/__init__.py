"""The live page: pictures, scenes and health of running streams, in a browser.

    stream threads:  Channel (a sink for each stream)  ->  Hub: newest picture, last scenes, state, journal of events
    server thread:   Guard (who may ask)  ->  api (what can be asked)  ->  Hub, Finder

A stream never waits for a browser: what it writes replaces what is there, and every list has a bound. A browser asks
for pictures when it is ready for the next one, and reads the journal at its own pace.
"""
