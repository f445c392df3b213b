"""`python -m instructalign`, and what `accelerate launch -m instructalign` starts."""

from instructalign.cli import main

if __name__ == "__main__":
    main()
