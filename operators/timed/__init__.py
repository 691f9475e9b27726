"""Results that wait for time: windows that close, and events that fail to come. Decisions never wait for them."""
