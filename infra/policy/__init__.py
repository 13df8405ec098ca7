"""What every stack has to keep: pure rules over what it asks for."""
